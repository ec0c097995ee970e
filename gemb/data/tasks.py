"""seqio tasks over files of pairs, and mixtures of them. Imports seqio, and so TensorFlow."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import seqio
import tensorflow as tf

from gemb.checks import UserError
from gemb.data.sources.beir import read_pairs


def pair_task(path: Path, neighbours: int) -> str:
    """Registers the task of one JSONL file of {"query", "document"}.

    Its features are texts: they are tokenized behind seqio, a batch at a time.

    Args:
        path: the file; each line is one pair.
        neighbours: consecutive lines that stay together when the file is shuffled.

    Returns:
        The name under which seqio knows the task.
    """
    name = f"gemb_{path.stem}_{_digest(str(path.resolve()), str(neighbours))}"
    if name not in seqio.TaskRegistry.names():
        text = seqio.Feature(seqio.PassThroughVocabulary(1), add_eos=False, dtype=tf.string, rank=0)
        seqio.TaskRegistry.add(
            name,
            source=seqio.FunctionDataSource(_shuffled_pairs(path, neighbours), splits=("train",)),
            preprocessors=[],
            output_features={"query": text, "document": text},
        )
    return name


def endless_mixture(
    rates: Mapping[str, float], seed: int, shard_index: int = 0, shard_count: int = 1
) -> tf.data.Dataset:
    """Mixes registered tasks without end, in an order drawn from the seed.

    Args:
        rates: task name -> rate, relative to the others.
        seed: of shuffling and mixing.
        shard_index: which host's part.
        shard_count: hosts.

    Raises:
        UserError: if a rate is not positive.
    """
    for task, rate in rates.items():
        if not rate > 0:
            raise UserError(f"rates: the rate of {task} must be above 0, got {rate}")
    name = f"gemb_mixture_{_digest(*(f'{task}={rate}' for task, rate in rates.items()))}"
    if name not in seqio.MixtureRegistry.names():
        seqio.MixtureRegistry.add(name, list(rates.items()))
    return seqio.MixtureRegistry.get(name).get_dataset(
        sequence_length=None,
        split="train",
        shuffle=False,  # the sources do, over whole epochs; seqio's buffer would blur them
        seed=seed,
        shard_info=seqio.ShardInfo(shard_index, shard_count) if shard_count > 1 else None,
        num_epochs=None,
    )


def _shuffled_pairs(path: Path, neighbours: int):
    """A dataset function that reads the file in an order drawn from the seed, anew each epoch."""

    def dataset(split: str, shuffle_files: bool, seed: int | None = None) -> tf.data.Dataset:
        del split, shuffle_files  # one split; always shuffled here, and whole
        pairs = list(read_pairs(path))
        columns = {side: [pair[side] for pair in pairs] for side in ("query", "document")}
        groups = tf.data.Dataset.from_tensor_slices(columns).batch(neighbours)
        return groups.shuffle(-(-len(pairs) // neighbours), seed=seed).unbatch()

    return dataset


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
