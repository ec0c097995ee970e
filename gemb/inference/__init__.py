"""Encodes texts and other values into vectors, on any device. No TensorFlow."""
