"""Models for programs without gemb: ONNX, StableHLO, GGUF; and what other programs make of them.

Folders in sentence-transformers' layout are `gemb.pretrained.saving`'s.
"""
