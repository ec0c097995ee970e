"""Teachers, and students made from other models."""
