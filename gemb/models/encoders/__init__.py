"""Inputs to token vectors, one file per modality."""
