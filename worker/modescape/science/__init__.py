"""Torch and numpy in, arrays out: this package knows nothing of specs, registries, storage, queues, HTTP or Plotly."""
