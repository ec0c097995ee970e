"""Late chunking: against plain encoding, against windows by hand, and what is refused."""

import dataclasses

import jax
import numpy as np
import pytest

from gemb.checks import UserError
from gemb.inference.embedder import Embedder
from gemb.inference.late_chunks import LateDocument, _owned, documents_of, encode_late
from gemb.models.functional import functional, initial_params
from gemb.models.scratch import from_scratch
from gemb.models.spec import DenseSpec, ModelSpec
from gemb.processors.text import of_bytes
from gemb.structs import Prompts

LENGTH = 32
TEXTS = ["one short text", "a", "twenty-nine letters, no more."]


def embedder(pooling="mean", prompts=None, dense=(), devices=1):
    processor = of_bytes(LENGTH)
    if prompts:
        processor = dataclasses.replace(processor, prompts=prompts)
    made = from_scratch(processor, layers=2, width=16, heads=2, mlp=32, positions=LENGTH)
    spec = dataclasses.replace(made.document.spec, pooling=pooling, dense=dense, widths=())
    made = made.with_spec(ModelSpec.of(spec))
    params = jax.jit(lambda key: initial_params(made.spec, key))(jax.random.key(3))
    made = made.with_params(jax.device_get(params))
    return Embedder(made, devices=jax.devices()[:devices])


@pytest.mark.long
@pytest.mark.parametrize("prompts", [None, Prompts("", "doc: "), Prompts("", "doc: ", False)])
@pytest.mark.parametrize("dense", [(), (DenseSpec(16, 8, "tanh"),)])
def test_a_document_of_one_passage_has_its_plain_vector(prompts, dense):
    model = embedder(prompts=prompts, dense=dense)
    texts = [text[: LENGTH - 8] for text in TEXTS]
    late = encode_late(model, [LateDocument(t, [(0, len(t))]) for t in texts], dim=model.dim)
    np.testing.assert_allclose(late, model.encode(texts), atol=1e-6)


@pytest.mark.long
def test_passages_are_means_of_the_whole_documents_tokens():
    model, text = embedder(devices=4), "abcdefgh ijklmnop"
    spans = [(0, 4), (2, 9), (9, 17)]
    other = LateDocument("zzz", [(0, 3)])
    late = encode_late(model, [other, LateDocument(text, spans)], dim=model.dim)[1:]
    tokens = model.model.document.processor.tokenizer().encode([text])
    inputs = model.model.document.processor.collate(
        model.model.document.processor.prepare([text], "document"), len(tokens[0])
    )
    functions = functional(ModelSpec.of(model.model.document.spec)).document
    states = np.asarray(functions.hidden(model.model.document.params, inputs))[0]
    # a token a byte behind [CLS], which counts for the first passage, as [SEP] does for the last
    for vector, (first, last) in zip(late, [(0, 5), (3, 10), (10, 19)], strict=True):
        mean = states[first:last].mean(0)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-6)
    plain = model.encode([text[slice(*span)] for span in spans])
    assert np.abs(late - plain).max() > 1e-3, "what stands around a passage counts"


def test_a_long_document_is_read_in_windows():
    model, text = embedder(), "".join(chr(97 + i % 26) for i in range(100))
    room = LENGTH - 2
    late = encode_late(model, [LateDocument(text, [(0, 100), (40, 41)])], dim=model.dim)
    windows = list(_owned(100, room))
    assert all(end - begin == room for begin, end, _, _ in windows)
    [(begin, end, own, _)] = [w for w in windows if w[2] <= 40 < w[3]]
    assert own <= 40
    inside = LateDocument(text[begin:end], [(0, 1), (40 - begin, 41 - begin), (29, 30)])
    alone = encode_late(model, [inside], dim=model.dim)[1]
    last = text[windows[-1][0] :]
    assert len(last) == room
    # the last passage also has [SEP], so only what is far from both ends is compared
    three = encode_late(model, [LateDocument(text, [(0, 1), (40, 41), (99, 100)])], dim=model.dim)
    np.testing.assert_allclose(three[1], alone, atol=1e-6)
    assert late.shape == (2, model.dim)


@pytest.mark.parametrize(("count", "room"), [(0, 8), (7, 8), (8, 8), (9, 8), (100, 8), (33, 4)])
def test_each_token_is_taken_from_one_window_and_the_most_central_one(count, room):
    windows = list(_owned(count, room))
    taken = [token for _, _, first, last in windows for token in range(first, last)]
    assert taken == list(range(count))
    for begin, end, first, last in windows:
        assert begin <= first <= last <= end
        for token in range(first, last):
            near = min(token - begin + (begin == 0) * 99, end - 1 - token + (end == count) * 99)
            for other, stop, _, _ in windows:
                if other <= token < stop:
                    there = min(
                        token - other + (other == 0) * 99, stop - 1 - token + (stop == count) * 99
                    )
                    assert near >= there - 1


def test_what_cannot_chunk_late_is_refused():
    with pytest.raises(UserError, match="pooling is 'cls'"):
        encode_late(embedder("cls"), [LateDocument("a", [(0, 1)])], dim=16)
    with pytest.raises(UserError, match="no nested width 3"):
        encode_late(embedder(), [LateDocument("ab", [(0, 1)])], dim=3)
    long = Prompts("", "x" * (LENGTH - 2))
    with pytest.raises(UserError, match="leave no room"):
        encode_late(embedder(prompts=long), [LateDocument("ab", [(0, 1)])], dim=16)
    with pytest.raises(UserError, match="make it with `gemb documents`"):
        documents_of([{"_id": "a", "text": "b"}])


def test_a_passage_without_a_token_has_its_plain_vector():
    model = embedder()
    late = encode_late(model, [LateDocument("ab", [(0, 1), (1, 1), (1, 2)])], dim=model.dim)
    np.testing.assert_allclose(late[1], model.encode(""), atol=1e-6)


def test_documents_are_put_together_again_from_their_passages():
    text = "# A\n\none two three\n\n\n\nfour. five"
    spans = [[0, 12], [9, 18], [22, 32]]
    rows = [{"file": "a", "span": s, "text": "A\n" + text[s[0] : s[1]]} for s in spans]
    rows.append({"file": "b", "span": [5, 8], "text": "six"})
    first, second = documents_of(rows)
    assert first.text == "# A\n\none two three\n\nfour. five"
    found = [first.text[start:end] for start, end in first.spans]
    assert found == [text[start:end] for start, end in spans]
    assert second == LateDocument("six", [(0, 3)])
