"""Contrastive losses: queries find their positives among the candidates of the batch.

The public functions are in `info_nce`, `joint` and `pairwise`; `softmax` holds the arithmetic that
they share, and `forms`, `blockwise` and `ring` how it is computed. Import them from gemb.losses.
"""
