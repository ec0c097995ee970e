"""Encoders as Flax NNX modules: tokens in, unit vectors out. No TensorFlow, no losses."""
