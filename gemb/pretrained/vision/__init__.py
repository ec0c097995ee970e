"""Published image encoders, and pairs of a text and an image encoder."""
