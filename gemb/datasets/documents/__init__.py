"""A person's own files as passages for retrieval: what is read, how it is cut, the folder it makes.

`corpus.py` puts it together: `walk.py` finds the files, one reader for each format gives a
`Document` (`document.py`), `chunks.py` cuts it. Encoding and search come later (`gemb.inference`,
`gemb.search`).
"""
