"""Models as Flax NNX modules: Inputs in, vectors out. No TensorFlow, no losses."""
