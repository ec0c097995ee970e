"""Twelve random draws of learning rate, batch size and training length.

python launch/sweep.py configs/sweeps/random_search.py \
    --gin_file=configs/experiments/quickstart.gin --workdir=runs/random_search
"""

from gemb.runs.sweeps import log_uniform, random


def sweep() -> list[dict[str, object]]:
    choices = {
        "LEARNING_RATE": log_uniform(2e-5, 1e-3),
        "BATCH_SIZE": [32, 64, 128],
        "STEPS": [60, 120],
    }
    return random(12, choices, seed=1)
