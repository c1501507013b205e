"""What figures are made with: the declaration, what they read, their words, looks, panels and frame."""
