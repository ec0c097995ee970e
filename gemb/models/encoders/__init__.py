"""Encoders: Inputs to vectors per position, one file per modality."""
