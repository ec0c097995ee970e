"""Span corruption: T5's statistics, independent views, nothing lost; sentences of many scripts."""

import gzip
import itertools
from pathlib import Path

import numpy as np
import pytest

from gemb.data import forms
from gemb.data.mixing import Task
from gemb.data.pipeline import mixture
from gemb.data.preprocess import spans
from gemb.data.preprocess.sentences import split_sentences
from gemb.data.randomness import bits, permuted, spread, uniform
from gemb.data.sources.reading import files
from gemb.processors.text import of_bytes
from gemb.structs import Processors
from gemb.tokenizers.tokenizer import Tokenizer, byte_tokenizer_json

PLAIN = Path(__file__).parents[4] / "shared" / "data" / "text" / "plain"
needs_plain = pytest.mark.skipif(not PLAIN.is_dir(), reason=f"{PLAIN} is absent")


def drawer(seed, rows):
    return lambda stream, n: uniform(seed, stream, np.arange(rows)[:, None], np.arange(n))


def statistics(mask, lengths):
    starts = np.cumsum(lengths) - lengths
    before = np.concatenate([[False], mask[:-1]])
    before[starts[lengths > 0]] = False
    return mask.sum() / lengths.sum(), mask.sum() / (mask & ~before).sum()


def read(path):
    return gzip.decompress(path.read_bytes()).decode()


@pytest.fixture(scope="module")
def plain_lengths():
    tokenizer = Tokenizer(byte_tokenizer_json(), 10**6)
    texts = [read(path)[:100_000] for path in sorted(PLAIN.glob("*.gz"))]
    lengths = [
        len(ids) - 2 for text in texts for ids in tokenizer.encode(text.split("\n")) if len(ids) > 2
    ]
    return np.random.default_rng(0).permutation(np.minimum(lengths, 200))[:6000]


@needs_plain
@pytest.mark.parametrize(("density", "mean"), [(0.15, 3.0), (0.3, 5.0), (0.5, 2.0)])
def test_density_and_mean_length_over_real_text(plain_lengths, density, mean):
    lengths = plain_lengths
    windows = np.full(min(lengths.sum() // 128, 4000), 128)
    for rows in (windows, lengths[lengths * density >= 2 * mean]):
        mask = spans.noise_mask(rows, drawer(1, len(rows)), density=density, mean_length=mean)
        seen = statistics(mask, rows)
        assert seen[0] == pytest.approx(density, rel=0.01)
        assert seen[1] == pytest.approx(mean, rel=0.01)


@needs_plain
def test_no_view_is_empty_or_fully_masked(plain_lengths):
    lengths = plain_lengths
    mask = spans.noise_mask(lengths, drawer(2, len(lengths)), density=0.5, mean_length=3)
    ends = np.cumsum(lengths)
    masked = np.add.reduceat(mask, ends - lengths)
    assert (masked[lengths > 1] >= 1).all()
    assert (masked < lengths).all()


def test_two_views_are_independent_at_every_place():
    rows, length = 4000, 64
    masks = [
        spans.noise_mask(np.full(rows, length), drawer(seed, rows), density=0.2).reshape(rows, -1)
        for seed in (3, 4)
    ]
    assert (masks[0] != masks[1]).any(axis=1).mean() > 0.99
    rates = [mask.mean(axis=0) for mask in masks]
    both = (masks[0] & masks[1]).mean(axis=0)
    # Under independence both - p q has a deviation of sqrt(pq(1 - pq) / rows) at each place.
    expected = rates[0] * rates[1]
    score = (both - expected) / np.sqrt(expected * (1 - expected) / rows)
    assert np.abs(score).max() < 4.5
    assert abs(score.mean()) < 4 / np.sqrt(length)


def test_cuts_are_uniform_over_all_ways():
    rows = 20_000
    mask = spans.noise_mask(np.full(rows, 6), drawer(5, rows), density=1 / 3, mean_length=1)
    found, counts = np.unique(mask.reshape(rows, 6), axis=0, return_counts=True)
    # Two spans of 1 token that do not touch, in 6 places: (5 choose 2) ways.
    assert len(found) == 10
    assert np.abs(counts / rows - 0.1).max() < 0.01


def test_spans_are_replaced_or_dropped_and_come_back():
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 40, 500)
    ids = rng.integers(1000, 2000, lengths.sum())
    mask = spans.noise_mask(lengths, drawer(6, 500), density=0.3)
    dropped, short = spans.replace_spans(ids, lengths, mask)
    np.testing.assert_array_equal(dropped, ids[~mask])
    rows = np.repeat(np.arange(500), lengths)
    np.testing.assert_array_equal(short, np.bincount(rows[~mask], minlength=500))
    sentinels = np.arange(100)
    left, sizes = spans.replace_spans(ids, lengths, mask, sentinels)
    taken, others = spans.replace_spans(ids, lengths, ~mask, sentinels)
    sides = ((left, sizes), (taken, others))
    pieces = zip(*(np.split(a, np.cumsum(n)[:-1]) for a, n in sides), strict=True)
    originals = np.split(ids, np.cumsum(lengths)[:-1])
    for row, (inputs, targets) in enumerate(pieces):
        marks = inputs[inputs < 100]
        np.testing.assert_array_equal(marks, np.arange(len(marks)))
        assert len(originals[row]) == (inputs >= 100).sum() + (targets >= 100).sum()


def test_t5_inputs_and_targets_rebuild_the_text():
    rows, length = 50, 114
    ids = np.arange(rows * length).reshape(rows, length) + 1000
    sentinels = list(range(999, 899, -1))
    inputs, targets = spans.inputs_and_targets(ids, drawer(7, rows), sentinels, end=1)
    noise = round(length * 0.15)
    count = round(noise / 3)
    assert inputs.shape == (rows, length - noise + count + 1)
    assert targets.shape[1] >= noise + count + 1  # T5 ends a target with one more sentinel or none
    for row in range(rows):
        parts = {}
        for key, group in itertools.groupby(targets[row][:-1], lambda i: i if i < 1000 else 0):
            if key:
                last = key
            else:
                parts[last] = list(group)
        rebuilt = []
        for token in inputs[row][:-1]:
            rebuilt += parts.get(token, [token] if token >= 1000 else [])
        assert rebuilt == list(ids[row])
    with pytest.raises(ValueError, match="sentinels: expected at least"):
        spans.inputs_and_targets(ids, drawer(7, rows), [999], end=1)


@needs_plain
def test_views_of_japanese_hold_whole_characters_in_order():
    path = PLAIN / "wagahai_ja.txt.gz"

    def make(form):
        tasks = {"ja": Task(files(path), form)}
        return mixture(Processors(of_bytes(), of_bytes()), 0, tasks=tasks, batch_size=32)

    batches, unmasked = make(forms.SpanCorruption(replace="drop")), make(forms.SameText())
    decode = Tokenizer(byte_tokenizer_json(), 8).decode
    whole = read(path)
    for _ in range(20):
        batch, plain = next(batches), next(unmasked)
        for side in (batch.query, batch.document):
            assert (side.mask.sum(axis=1) > 2).all()
        for ids, mask in zip(*plain.document[:2], strict=True):
            assert decode(ids[mask].tolist()).rstrip("\ufffd").strip() in whole
        assert (batch.query.ids != batch.document.ids[:, :32]).any()


@pytest.mark.parametrize(
    "text",
    [
        "Dr. Smith met Mrs. Jones at 3.15 p.m. in Washington.|They spoke.",
        "J. R. R. Tolkien, b. 1892, wrote it.|It was long!|Was it?|Yes.",
        "See e.g. Fig. 2 vs. Fig. 3.|Then stop...|Or go on... if you must.",
        'He said "Go."|She went.|(It rained.)|Done.',
        "吾輩は猫である。|名前はまだ無い。|「行くよ。」と彼は言った。|本当？！|はい。",
        "यह एक वाक्य है।|यह दूसरा है।",
        "هل أنت بخير؟|نعم، شكرا.|إلى اللقاء!",
        "Это т.е. пример, 1990 г. и далее.|Конец.",
        "今天天气很好！|我们走吧。",
        "አንድ ነው።|ሁለት ነው።",
        "A film , television actor .|He had a role in 2000 .|It ended .",
    ],
)
def test_sentences(text):
    sentences = text.split("|")
    joined = "".join(s if s[-1] in "。！？" else f"{s} " for s in sentences)
    assert split_sentences(joined) == sentences


def test_no_character_is_lost():
    texts = ["", "   ", "one", "a.b.c. D", "...", "?!?!", "x\n\n\ny", "。。。", "1. A\n2. B"]
    for text in texts:
        assert "".join("".join(split_sentences(text)).split()) == "".join(text.split())


def test_random_numbers_are_uniform_and_orders_are_permutations():
    draws = uniform(9, np.arange(2000)[:, None], np.arange(50))
    assert np.abs(np.histogram(draws, 20, (0, 1))[0] / draws.size - 0.05).max() < 0.002
    assert abs(np.corrcoef(draws[:, 0], draws[:, 1])[0, 1]) < 0.08
    assert len(np.unique(bits(9, np.arange(100_000)))) == 100_000
    for size in (1, 2, 3, 50, 1000, 4097):
        orders = [permuted(np.arange(size), size, 7, np.full(size, e)) for e in range(3)]
        for order in orders:
            np.testing.assert_array_equal(np.sort(order), np.arange(size))
        if size > 10:
            assert (orders[0] == orders[1]).mean() < 0.2
    zero = np.zeros(1, int)
    first = np.array([permuted(zero, 8, seed, zero)[0] for seed in range(4000)])
    assert np.abs(np.bincount(first, minlength=8) / 4000 - 1 / 8).max() < 0.025


def test_spread_fills_every_interval():
    for seed in range(5):
        share = (spread(seed, np.arange(1000)) < 0.3).mean()
        assert abs(share - 0.3) < 0.005
