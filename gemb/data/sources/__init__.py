"""Where records come from: files and folders -> {"query": str, "document": str, ...}.

Pure Python: no TensorFlow, no seqio, no numpy. Cleaning and tokenizing come later (`gemb.data`).
"""
