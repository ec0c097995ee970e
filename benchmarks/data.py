"""Pairs and tokens a second of the data pipeline, one JSON line a row.

    python benchmarks/data.py --text ../shared/data/text/plain            # all forms
    python benchmarks/data.py --text FOLDER --suite views --seconds 20

`t5` makes T5's inputs and targets of 128 tokens, once as seqio does, an element at a time in
tf.data, and once by `gemb.data.preprocess.spans`. Both read the same lines with the same
SentencePiece model, in alternation; `ratio` compares their medians. `views` runs the whole pipeline
in one process: records, two span-corrupted views, the padded batch. `processes` runs it in 1 to 4
processes at the same time, each with a stream of its own; `cores` is what they used together.
"""

import argparse
import base64
import gzip
import itertools
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from gemb.data import forms
from gemb.data.mixing import Task
from gemb.data.pipeline import mixture
from gemb.data.preprocess.spans import inputs_and_targets
from gemb.data.randomness import uniform
from gemb.data.sources.reading import files
from gemb.processors.text import TextProcessor
from gemb.structs import Processors
from gemb.tokenizers.sentencepiece_encoder import SentencePieceEncoder

LENGTH, DENSITY, MEAN, ROWS = 128, 0.15, 3.0, 32
CHUNK = 2048  # lines tokenized, and rows corrupted, at a time
EXTRA = 100  # sentinels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", required=True, help="folder of .txt.gz or .txt files")
    parser.add_argument("--suite", choices=("t5", "views", "processes", "all"), default="all")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lines = write_lines(Path(arguments.text), Path(folder) / "lines.txt")
        model = train_sentencepiece(lines, Path(folder))
        if arguments.suite in ("t5", "all"):
            compare_t5(lines, model, arguments.seconds, arguments.repeats)
        if arguments.suite in ("views", "all"):
            measure_views(lines, model, arguments.seconds, arguments.repeats)
        if arguments.suite in ("processes", "all"):
            measure_processes(lines, model, arguments.seconds, arguments.repeats)


def write_lines(source: Path, target: Path) -> Path:
    """All texts as one file of lines."""
    with open(target, "wb") as file:
        for path in sorted([*source.glob("*.txt.gz"), *source.glob("*.txt")]):
            content = path.read_bytes()
            content = gzip.decompress(content) if path.suffix == ".gz" else content
            file.writelines(line + b"\n" for line in content.splitlines() if line.strip())
    return target


def train_sentencepiece(lines: Path, folder: Path) -> Path:
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(
        input=str(lines), model_prefix=str(folder / "model"), vocab_size=8000, minloglevel=2,
        input_sentence_size=8000, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, num_threads=2,
    )  # fmt: skip
    return folder / "model.model"


def raw_length() -> int:
    """Tokens that become inputs of LENGTH, sentinels and end included."""

    def inputs(tokens: int) -> int:
        noise = round(tokens * DENSITY)
        return tokens - noise + round(noise / MEAN) + 1

    return max(tokens for tokens in range(LENGTH, 2 * LENGTH) if inputs(tokens) <= LENGTH)


def seqio_batches(lines: Path, model: Path):
    """The form of seqio: a graph of tf.data that masks one element at a time."""
    import seqio
    import tensorflow as tf

    vocabulary = seqio.SentencePieceVocabulary(str(model), extra_ids=EXTRA)
    raw = raw_length()

    def segments(items, count, seed):
        cut = tf.cast(tf.range(items - 1) < count - 1, tf.int32)
        cut = tf.pad(tf.random.experimental.stateless_shuffle(cut, seed), [[1, 0]])
        return tf.math.segment_sum(tf.ones(items, tf.int32), tf.cumsum(cut))

    def sentinels(ids, mask):
        first = mask & ~tf.pad(mask[:-1], [[1, 0]])
        rest = mask & ~first
        numbers = vocabulary.vocab_size - tf.cumsum(tf.cast(first, ids.dtype))
        return tf.boolean_mask(tf.where(first, numbers, ids), ~rest)

    @seqio.map_over_dataset(num_seeds=1)
    def corrupt(example, seed):
        ids, noise = example["targets"], round(raw * DENSITY)
        spans = round(noise / MEAN)
        masked = segments(noise, spans, tf.stack(seed))
        kept = segments(raw - noise, spans, tf.stack(seed) + 1)
        ends = tf.cumsum(tf.reshape(tf.stack([kept, masked], 1), [-1]))[:-1]
        marks = tf.math.unsorted_segment_sum(tf.ones_like(ends), ends, raw)
        mask = tf.cumsum(marks) % 2 == 1
        return {"inputs": sentinels(ids, mask), "targets": sentinels(ids, ~mask)}

    def window(dataset):
        tokens = dataset.map(lambda example: example["targets"]).unbatch()
        return tokens.batch(raw, drop_remainder=True).map(lambda ids: {"targets": ids})

    feature = seqio.Feature(vocabulary, add_eos=True)
    seqio.TaskRegistry.add(
        "spans",
        source=seqio.TextLineDataSource({"train": str(lines)}),
        preprocessors=[
            lambda dataset: dataset.map(lambda text: {"targets": text}),
            seqio.preprocessors.tokenize,
            window,
            corrupt,
            seqio.preprocessors.append_eos,
        ],
        output_features={"inputs": feature, "targets": feature},
    )
    dataset = seqio.get_dataset(
        "spans",
        {"inputs": LENGTH, "targets": LENGTH // 2},
        dataset_split="train",
        shuffle=True,
        seed=0,
        num_epochs=None,
        feature_converter=seqio.EncDecFeatureConverter(pack=False),
        use_cached=False,
    )
    return dataset.batch(ROWS).as_numpy_iterator()


def gemb_batches(lines: Path, model: Path):
    """The same by whole arrays."""
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    size, raw, records = processor.get_piece_size(), raw_length(), files(lines)
    sentinels, left = np.arange(size + EXTRA - 1, size - 1, -1), np.zeros(0, np.int32)
    rng = np.random.default_rng(0)

    for number in itertools.count():
        texts = [records[int(i)]["text"] for i in rng.integers(0, len(records), CHUNK)]
        # threads of its own: it does not let Python's go on meanwhile
        found = processor.encode(texts, num_threads=os.cpu_count())
        tokens = np.fromiter(itertools.chain.from_iterable(found), np.int32)
        left = np.concatenate([left, tokens])
        rows = len(left) // raw
        ids, left = left[: rows * raw].reshape(rows, raw), left[rows * raw :]
        places = np.arange(rows)[:, None]

        def draw(stream, columns, number=number, places=places):
            return uniform(0, stream, number, places, np.arange(columns))

        noise = {"density": DENSITY, "mean_length": MEAN}
        inputs, targets = inputs_and_targets(ids, draw, sentinels, 1, **noise)
        for start in range(0, rows - ROWS + 1, ROWS):
            yield inputs[start : start + ROWS], targets[start : start + ROWS]


def compare_t5(lines: Path, model: Path, seconds: float, repeats: int) -> None:
    ways = {"seqio": seqio_batches(lines, model), "gemb": gemb_batches(lines, model)}
    rates = {name: [] for name in ways}
    for batches in ways.values():
        rate(batches, 1.0, lambda _: ROWS)  # warm up
    cpu = dict.fromkeys(ways, 0.0)
    for _ in range(repeats):
        for name, batches in ways.items():
            before = time.process_time()
            rates[name].append(rate(batches, seconds, lambda _: ROWS))
            cpu[name] += (time.process_time() - before) / (rates[name][-1] * seconds * repeats)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, values in rates.items():
        show(
            suite="t5", form=name, pairs_per_second=round(medians[name]),
            spread=[round(min(values)), round(max(values))],
            tokens_per_second=round(medians[name] * raw_length()),
            ratio=round(medians[name] / medians["seqio"], 2),
            cpu_ms_per_pair=round(1e3 * cpu[name], 3),
        )  # fmt: skip


def measure_views(lines: Path, model: Path, seconds: float, repeats: int) -> None:
    """The pipeline itself: both views of each text, padded, with their hashes."""
    import tokenizers

    for kind, tokenizer in (("sentencepiece", as_json(model)), ("wordpiece", word_pieces(lines))):
        assert tokenizers.Tokenizer.from_str(tokenizer)
        made = views(lines, tokenizer, 0)
        rate(made, 1.0, tokens)
        values = [rate(made, seconds, tokens) for _ in range(repeats)]
        pairs = rate(made, seconds, lambda batch: len(batch.positive))
        show(
            suite="views", tokenizer=kind, pairs_per_second=round(pairs),
            tokens_per_second=round(statistics.median(values)),
            spread=[round(min(values)), round(max(values))],
        )  # fmt: skip


def views(lines: Path, tokenizer: str, seed: int):
    """Batches of two span-corrupted views."""
    task = Task(
        files(lines), forms.SpanCorruption(replace="drop"), query_length=LENGTH,
        document_length=LENGTH, length_window=16,
    )  # fmt: skip
    processor, buckets = TextProcessor(tokenizer, LENGTH), (16, 32, 48, 64, 96)
    processors = Processors(processor, processor)
    return mixture(processors, seed, tasks={"views": task}, batch_size=256, buckets=buckets)


def tokens(batch) -> int:
    """Real tokens of both sides."""
    return int(batch.query.mask.sum() + batch.document.mask.sum())


def measure_processes(lines: Path, model: Path, seconds: float, repeats: int) -> None:
    """The pipeline in several processes at once, as hosts with several loaders run it."""
    spawn = multiprocessing.get_context("spawn")
    for kind, tokenizer in (("sentencepiece", as_json(model)), ("wordpiece", word_pieces(lines))):
        for count in range(1, 5):
            start, queue = spawn.Barrier(count), spawn.Queue()
            arguments = (lines, tokenizer, seconds, repeats, start, queue)
            workers = [spawn.Process(target=work, args=(i, *arguments)) for i in range(count)]
            for worker in workers:
                worker.start()
            found = np.array([queue.get() for _ in workers])  # [processes, repeats, 2]
            for worker in workers:
                worker.join()
            sums = found.sum(axis=0)
            show(
                suite="processes", tokenizer=kind, processes=count,
                tokens_per_second=round(statistics.median(sums[:, 0])),
                spread=[round(sums[:, 0].min()), round(sums[:, 0].max())],
                cores=round(statistics.median(sums[:, 1]), 2),
                tokens_per_core_second=round(statistics.median(sums[:, 0] / sums[:, 1])),
            )  # fmt: skip


def work(number: int, lines: Path, tokenizer: str, seconds, repeats, start, queue) -> None:
    """Measures (tokens a second, cores) `repeats` times, together with the other processes."""
    made = views(lines, tokenizer, number)
    rate(made, 1.0, tokens)
    values = []
    for _ in range(repeats):
        start.wait()
        wall, cpu = time.perf_counter(), time.process_time()
        value = rate(made, seconds, tokens)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        values.append((value, cpu / wall))
    queue.put(values)


def as_json(model: Path) -> str:
    """A tokenizer.json around a SentencePiece model, as `SentencePieceEncoder` reads it."""
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    vocabulary = [(processor.id_to_piece(i), 0.0) for i in range(processor.get_piece_size())]
    content = {
        "version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": None,
        "post_processor": None, "decoder": None, "truncation": None, "padding": None,
        "model": {"type": "Unigram", "unk_id": 2, "vocab": vocabulary, "byte_fallback": False},
    }  # fmt: skip
    content["model"]["sentencepiece"] = base64.b64encode(model.read_bytes()).decode()
    content["model"]["special_tokens_in_text"] = False
    SentencePieceEncoder(content, dict(vocabulary).get, 8)
    return json.dumps(content)


def word_pieces(lines: Path) -> str:
    """A BERT-like tokenizer of 8,000 pieces."""
    import tokenizers

    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=8000, special_tokens=special, show_progress=False
    )
    tokenizer.train([str(lines)], trainer)
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer.to_str()


def rate(batches, seconds: float, count) -> float:
    """What `count` counts of each batch, a second."""
    start, total = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        total += count(next(batches))
    return total / (time.perf_counter() - start)


def show(**row) -> None:
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
