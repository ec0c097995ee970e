"""From records to batches. seqio and TensorFlow live in seqio_tasks.py and offline.py only.

sources      files and folders -> records by number          selection   the good ones, renamed
forms        records -> texts of pairs                       preprocess  masks, sentences
mixing       which records the n-th batch holds              assembly    rows -> padded Batch
batches      the iterator, with its position                 pipeline    what gin binds as DATA
"""
