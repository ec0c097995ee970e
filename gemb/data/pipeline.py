"""The iterator of batches that training sees: host-local numpy, deterministic, resumable.

seqio and TensorFlow are imported when an iterator is made, not with this module, so that configs
that name it can be read on hosts without them.
"""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from gemb.checks import UserError
from gemb.data.features import pad, text_ids
from gemb.data.sources import code
from gemb.data.tokenizers import Tokenizer
from gemb.structs import Batch


class PairBatches:
    """An endless iterator of Batch over a seqio mixture.

    Args:
        make_dataset: () -> endless tf.data.Dataset of {"query", "document"} texts; called anew for
            each position, because a tf.data shuffle gives another order to a second iterator.
        rows: pairs in this host's part of each batch.
        tokenizers: of "query" and "document"; their length limits are the padded lengths.
        offset: index of this host's first document among all candidates.
        description: what the data is: at least "folder" and "fingerprint".
    """

    def __init__(
        self,
        make_dataset: Callable,
        rows: int,
        tokenizers: Mapping[str, Tokenizer],
        offset: int,
        description: dict,
    ):
        self.description = description
        self._make_dataset, self._rows, self._tokenizers = make_dataset, rows, tokenizers
        self._offset, self._batches, self._iterator = offset, 0, None

    def __iter__(self):
        return self

    def __next__(self) -> Batch:
        if self._iterator is None:
            skipped = self._make_dataset().skip(self._batches * self._rows)
            self._iterator = skipped.as_numpy_iterator()
        rows = [next(self._iterator) for _ in range(self._rows)]
        self._batches += 1
        texts = {side: [row[side].decode() for row in rows] for side in self._tokenizers}
        tokens = {
            side: pad(tokenizer.encode(texts[side]), tokenizer.max_length)
            for side, tokenizer in self._tokenizers.items()
        }
        real = np.ones(self._rows, bool)
        return Batch(
            **tokens,
            positive=np.arange(self._rows, dtype=np.int32) + self._offset,
            query_id=text_ids(texts["query"]),
            document_id=text_ids(texts["document"]),
            query_mask=real,
            document_mask=real,
        )

    def get_state(self) -> dict[str, int]:
        """The position, as integers that a checkpoint holds."""
        return {"batches": self._batches, "data": self._content()}

    def set_state(self, state: dict[str, int]) -> None:
        """Goes to a position: the next batch is the one that followed it.

        Raises:
            UserError: if the state was made with other data.
        """
        if state["data"] != self._content():
            raise UserError(
                f"{self.description['folder']}: the data has changed since the checkpoint was "
                "written, so the run cannot go on exactly; start a new --workdir"
            )
        self._batches, self._iterator = state["batches"], None

    def _content(self) -> int:
        digest = hashlib.sha256(self.description["fingerprint"].encode()).digest()
        return int.from_bytes(digest[:7], "big")


def pairs(
    tokenizer_json: str,
    seed: int,
    shard: tuple[int, int] = (0, 1),
    *,
    batch_size: int,
    rates: Mapping[str, float],
    folder: str | None = None,
    query_length: int = 32,
    document_length: int = 128,
    query_prompt: str = "",
    document_prompt: str = "",
    neighbours: int = 1,
) -> PairBatches:
    """Batches of (query, document) pairs from the training files of a folder.

    Args:
        tokenizer_json: the model's tokenizer.
        seed: of shuffling and mixing.
        shard: (index, count) of hosts.
        batch_size: pairs in a batch over all hosts.
        rates: name of a .jsonl file in the folder, without its ending -> mixing rate.
        folder: a folder with such files, as `gemb harvest` writes; default the harvest of the
            Python that runs, which is made now if it is not there yet.
        query_length: tokens that queries are cut and padded to.
        document_length: tokens that documents are cut and padded to.
        query_prompt: put in front of queries.
        document_prompt: put in front of documents.
        neighbours: consecutive lines that stay together when a file is shuffled. Where neighbours
            are alike, as functions of one module, they are each other's hard negatives.

    Raises:
        UserError: for a missing file, a bad rate, or a batch size that the hosts do not divide.
    """
    index, count = shard
    if batch_size % count:
        raise UserError(f"batch_size: {batch_size} does not divide over {count} hosts")
    home = Path(folder) if folder else code.ensure_harvest()
    paths = {name: home / f"{name}.jsonl" for name in rates}
    for path in paths.values():
        if not path.exists() or path.stat().st_size == 0:
            raise UserError(
                f"{path}: no training pairs there; run `gemb harvest`, or choose rates among "
                f"{sorted(p.stem for p in home.glob('*.jsonl'))}"
            )
    tokenizers = {
        "query": Tokenizer(tokenizer_json, query_length, query_prompt),
        "document": Tokenizer(tokenizer_json, document_length, document_prompt),
    }
    description = {"folder": str(home.resolve()), "fingerprint": _fingerprint(paths.values())}

    def make_dataset():
        from gemb.data import tasks

        registered = {
            tasks.pair_task(path, neighbours): rates[name] for name, path in paths.items()
        }
        return tasks.endless_mixture(registered, seed, index, count)

    rows = batch_size // count
    return PairBatches(make_dataset, rows, tokenizers, index * rows, description)


def _fingerprint(paths) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:32]
