"""Torch and numpy in, arrays out: this package knows nothing of storage, queues, HTTP or Plotly."""
