"""Nested widths, listed one by one, on three seeds.

python launch/sweep.py configs/sweeps/widths.py \
    --gin_file=configs/experiments/quickstart.gin --workdir=runs/widths
"""

from gemb.runs.sweeps import grid, product


def sweep() -> list[dict[str, object]]:
    nestings = [
        {"WIDTHS": (384,), "WIDTH_WEIGHTS": (1.0,)},
        {"WIDTHS": (384, 96), "WIDTH_WEIGHTS": (1.0, 0.6)},
        {"WIDTHS": (384, 192, 96, 48, 24), "WIDTH_WEIGHTS": (1.0, 0.8, 0.6, 0.4, 0.2)},
    ]
    return product(nestings, grid({"experiment.Experiment.seed": range(3)}))
