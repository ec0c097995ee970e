"""Texts to vectors, on whatever device is at hand. No TensorFlow."""
