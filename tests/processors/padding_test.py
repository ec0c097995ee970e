"""The lengths that batches are padded to."""

import numpy as np

from gemb.processors import padding


def test_buckets_waste_little_and_are_few():
    lengths = np.arange(1, 257)
    padded = np.array([padding.bucket(int(n), 256) for n in lengths])
    assert (padded >= lengths).all()
    assert ((padded - lengths)[lengths >= 32] / padded[lengths >= 32]).max() < 0.2
    assert len(set(padded)) <= 40
