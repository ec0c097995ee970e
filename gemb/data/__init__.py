"""From records to batches. seqio and TensorFlow live in tasks.py and nowhere else.

`sources`, `tokenizers`, `features` need neither: inference uses them on hosts without TensorFlow.
"""
