import json
import zlib

import numpy as np
import pytest
import tokenizers

from gemb.checks import UserError
from gemb.data.pipeline import pairs
from gemb.processors.text import TextProcessor, of_bytes
from gemb.structs import Processors, Prompts
from gemb.tokenizers.tokenizer import Tokenizer, byte_tokenizer_json

TOKENIZER = byte_tokenizer_json()
PROCESSORS = Processors(of_bytes(), of_bytes())


@pytest.fixture
def folder(tmp_path):
    for name, letter in (("left", "a"), ("right", "b")):
        rows = [{"query": f"{letter}{i}", "document": f"{letter} doc {i}"} for i in range(50)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def make(folder, seed=0, shard=(0, 1), processors=PROCESSORS, **options):
    settings = {"batch_size": 8, "rates": {"left": 1, "right": 1}, "query_length": 8}
    return pairs(
        processors, seed, shard, folder=str(folder), document_length=16, **settings | options
    )


def texts(batch):
    tokenizer = Tokenizer(TOKENIZER, 16)
    return [tokenizer.decode(list(ids[mask])) for ids, mask in zip(*batch.query[:2], strict=True)]


def same(left, right):
    arrays = zip(left.query + left[2:], right.query + right[2:], strict=True)
    return all(np.array_equal(a, b) for a, b in arrays)


def test_batches_hold_the_pairs_as_tokenized_and_hashed(folder):
    batch = next(make(folder))
    assert batch.query.ids.shape == (8, 8)
    assert batch.document.ids.shape == (8, 16)
    tokenizer = Tokenizer(TOKENIZER, 16)
    for row, query in enumerate(texts(batch)):
        document = f"{query[0]} doc {query[1:]}"
        ids = tokenizer.encode([document])[0]
        assert list(batch.document.ids[row][batch.document.mask[row]]) == ids
        assert batch.query_id[row] == zlib.crc32(query.encode()) & 0x7FFFFFFF
    np.testing.assert_array_equal(batch.positive, np.arange(8))


def test_each_side_is_read_by_its_own_processor(folder):
    """Two towers with different tokenizers, prompts and poolers."""
    vocabulary = {"[UNK]": 0, "tell": 1, "doc": 2, "a": 3, "b": 4} | {
        str(i): i + 5 for i in range(50)
    }
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    document = TextProcessor(words.to_str(), 32, Prompts(document="tell ", pooled=False))
    batch = next(make(folder, processors=Processors(of_bytes(), document)))
    assert batch.query.pooled is None
    for row, query in enumerate(texts(batch)):
        side, number = query[0], query[1:]
        expected = [vocabulary[word] for word in ("tell", side, "doc", number)]
        assert batch.document.ids[row].tolist() == expected + [0] * 12
        assert batch.document.pooled[row].tolist() == [False, True, True, True] + [False] * 12
        assert batch.document_id[row] == zlib.crc32(f"{side} doc {number}".encode()) & 0x7FFFFFFF


def test_resume_is_exact_and_seeds_differ(folder):
    whole = make(folder)
    batches = [next(whole) for _ in range(20)]
    other = make(folder, seed=1)
    assert not same(batches[0], next(other))
    part = make(folder)
    for _ in range(7):
        next(part)
    resumed = make(folder)
    resumed.set_state(part.get_state())
    for expected in batches[7:]:
        assert same(expected, next(resumed))


def test_rates_are_kept_and_an_epoch_holds_each_pair(folder):
    mixed = make(folder, rates={"left": 3, "right": 1})
    seen = [text[0] for _ in range(200) for text in texts(next(mixed))]
    assert abs(seen.count("a") / len(seen) - 0.75) < 0.03
    one = make(folder, rates={"left": 1}, batch_size=10)
    epoch = [text for _ in range(5) for text in texts(next(one))]
    assert sorted(epoch) == sorted(f"a{i}" for i in range(50))


def test_neighbours_stay_together(folder):
    batches = make(folder, rates={"left": 1}, neighbours=5)
    numbers = np.array([int(text[1:]) for _ in range(5) for text in texts(next(batches))])
    groups = numbers.reshape(-1, 5)
    assert (np.diff(groups, axis=1) == 1).all()
    assert (np.diff(groups[:, 0]) != 5).any()


def test_two_hosts_share_the_pairs_out(folder):
    hosts = [make(folder, shard=(i, 2), rates={"left": 1}, batch_size=10) for i in range(2)]
    seen = [[text for _ in range(5) for text in texts(next(host))] for host in hosts]
    assert not set(seen[0]) & set(seen[1])
    assert set(seen[0]) | set(seen[1]) == {f"a{i}" for i in range(50)}
    assert list(next(hosts[1]).positive) == [5, 6, 7, 8, 9]


def test_mistakes_are_named(folder):
    with pytest.raises(UserError, match=r"centre\.jsonl: no training pairs.*'left', 'right'"):
        make(folder, rates={"centre": 1})
    with pytest.raises(UserError, match="must be above 0, got 0"):
        next(make(folder, rates={"left": 0, "right": 1}))
    with pytest.raises(UserError, match="8 does not divide over 3 hosts"):
        make(folder, shard=(0, 3))
    state = make(folder).get_state()
    (folder / "left.jsonl").write_text('{"query": "x", "document": "y"}\n')
    with pytest.raises(UserError, match="the data has changed"):
        make(folder).set_state(state)
