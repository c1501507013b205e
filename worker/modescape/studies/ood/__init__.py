"""Images of another kind: what networks say of what they were not trained on."""
