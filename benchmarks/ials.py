"""gemb's iALS and the library `implicit` on a folder of interactions: time and quality, by turns.

    python benchmarks/ials.py FOLDER [--split=random --seed=7] [--dim=128 ...]

Both fit the same matrix; `implicit` gets one thread for linear algebra, as it asks. gemb's programs
are compiled before the first fit that counts. Seeds 0 to 4.
"""

import argparse
import os
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import scipy.sparse

from gemb.data.interactions import read_folder, splits
from gemb.evaluation.recommendation import measure
from gemb.recommendation.baselines import ials, interaction_matrix
from gemb.recommendation.baselines.tuning import rank_users
from gemb.recommendation.vectors import Vectors


def main() -> None:
    import implicit.als

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--split", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--unobserved", type=float, default=0.03)
    parser.add_argument("--regularisation", type=float, default=0.003)
    parser.add_argument("--implicit", type=float, nargs=3, default=(128, 20, 5))  # dim, alpha, reg
    parser.add_argument("--iterations", type=int, default=15)
    given = parser.parse_args()
    data = read_folder(given.folder)
    split = splits.named(data, given.split, seed=given.seed)
    sizes = (len(data.users.ids), len(data.items.ids))
    matrix = scipy.sparse.csr_matrix(interaction_matrix(split.train, *sizes))
    settings = {
        "dim": given.dim,
        "unobserved": given.unobserved,
        "regularisation": given.regularisation,
    }
    ials(split.train, *sizes, iterations=1, **settings)
    rows = []
    for seed in range(given.seeds):
        start = time.perf_counter()
        ours = ials(split.train, *sizes, iterations=given.iterations, seed=seed, **settings)
        middle = time.perf_counter()
        dim, alpha, penalty = given.implicit
        peer = implicit.als.AlternatingLeastSquares(
            factors=int(dim), alpha=alpha, regularization=penalty, random_state=seed,
            iterations=given.iterations, num_threads=1,
        )  # fmt: skip
        peer.fit(matrix, show_progress=False)
        times = (middle - start, time.perf_counter() - middle)
        figures = []
        for model in (ours, Vectors(peer.user_factors, peer.item_factors)):
            found = measure(*rank_users(model, split, *sizes, 100), split, sizes[1]).figures
            figures.append([found[name] for name in ("hr@10", "ndcg@10", "recall@100")])
        rows.append((*times, *figures[0], *figures[1]))
        print(f"seed {seed}: " + " ".join(f"{value:.4f}" for value in rows[-1]), flush=True)
    mean, spread = np.mean(rows, axis=0), np.std(rows, axis=0, ddof=1)
    for name, first in (("gemb", 2), ("implicit", 5)):
        shown = (f"{mean[n]:.4f} +- {spread[n]:.4f}" for n in range(first, first + 3))
        print(f"{name}: HR@10, nDCG@10, recall@100: {', '.join(shown)}")
    ratios = [row[0] / row[1] for row in rows]
    print(f"time of gemb / implicit: median {np.median(ratios):.2f}, {min(ratios):.2f} to "
          f"{max(ratios):.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
