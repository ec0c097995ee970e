"""Where records come from: files and folders -> records by number, each a dict of named values.

No TensorFlow and no seqio. Which columns are a query and a document, cleaning and tokenizing come
later (`gemb.data`).
"""
