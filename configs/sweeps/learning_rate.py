"""Learning rates on a grid, each with two seeds.

python launch/sweep.py configs/sweeps/learning_rate.py \
    --gin_file=configs/experiments/quickstart.gin --workdir=runs/learning_rate
"""

from gemb.runs.sweeps import grid


def sweep() -> list[dict[str, object]]:
    return grid({"LEARNING_RATE": [5e-5, 1e-4, 2e-4, 4e-4], "experiment.Experiment.seed": [0, 1]})
