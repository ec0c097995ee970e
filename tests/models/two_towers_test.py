"""Two towers and learned temperatures: what is trained together, saved, and read by others."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gemb import Embedder, losses
from gemb.checks import UserError
from gemb.models.functional import functional, initial_params
from gemb.models.model import two_towers
from gemb.models.scratch import from_scratch
from gemb.pretrained import saving
from gemb.pretrained.adapt import load
from gemb.processors.padding import pad
from gemb.processors.text import TextProcessor, of_bytes
from gemb.structs import Batch, Prompts
from gemb.tokenizers.tokenizer import Tokenizer, byte_tokenizer_json
from gemb.training.objectives import Encoding
from gemb.training.step import batch_loss


def tower(layers: int, seed: int, processor: TextProcessor | None = None):
    made = from_scratch(processor or of_bytes(), layers=layers, width=16, heads=2, mlp=32)
    params = jax.jit(lambda: initial_params(made.spec, jax.random.key(seed)))()
    return made.trained(made.spec, jax.device_get(params))


@pytest.fixture(scope="module")
def towers():
    return two_towers(tower(1, 0), tower(2, 1), temperature=0.1)


def batch():
    tokenizer = Tokenizer(byte_tokenizer_json(), 16)
    query = pad(tokenizer.encode(["one", "two", "three"]), 8)
    document = pad(tokenizer.encode(["first text", "second", "the third"]), 12)
    number, real = np.arange(3, dtype=np.int32), np.ones(3, bool)
    return Batch(query, document, number, number, number, real, real)


@pytest.mark.long
def test_each_side_goes_through_its_own_tower(towers):
    one = batch()
    loss = partial(losses.info_nce, temperature=7.0)
    encoding = Encoding(functional(towers.spec))
    value, metrics = jax.jit(partial(batch_loss, encoding, loss))(towers.params, one)
    query, document = (
        jax.jit(functional(side.spec).document.embed)(side.params, tokens)
        for side, tokens in ((tower(1, 0), one.query), (tower(2, 1), one.document))
    )
    scores = np.asarray(query @ document.T, np.float64) / 0.1  # the learned one, not the loss's
    expected = np.mean(np.log(np.exp(scores).sum(1)) - np.diag(scores))
    assert float(value) == pytest.approx(expected, rel=1e-5)
    assert float(metrics["temperature"]) == pytest.approx(0.1, rel=1e-6)


@pytest.mark.long
def test_the_temperature_and_both_towers_receive_gradients(towers):
    encoding = Encoding(functional(towers.spec))
    gradients = jax.jit(jax.grad(lambda p: batch_loss(encoding, losses.info_nce, p, batch())[0]))(
        towers.params
    )
    assert abs(float(gradients["temperature/log"])) > 1e-4
    for side in ("query", "document"):
        assert np.abs(gradients[f"{side}/text/token/table"]).max() > 0


def test_training_gives_back_towers_or_the_one_model(towers):
    moved = jax.tree.map(lambda x: x + 1, towers.params)
    trained = towers.trained(towers.spec, moved)
    table = "text/token/table"
    np.testing.assert_array_equal(trained.query.params[table], towers.query.params[table] + 1)
    assert trained.params.keys() == towers.params.keys() - {"temperature/log"}
    alone = tower(1, 0)
    shared = two_towers(alone, temperature=0.05)
    assert shared.params.keys() == alone.params.keys() | {"temperature/log"}
    back = shared.trained(shared.spec, shared.params)
    assert back.spec == alone.spec
    assert back.params.keys() == alone.params.keys()


@pytest.mark.peers
def test_saved_towers_are_a_router_of_sentence_transformers(towers, tmp_path):
    peer = pytest.importorskip("sentence_transformers")
    identity = saving.save(towers, tmp_path / "towers", training={"steps": 3})
    ours = Embedder.load(tmp_path / "towers")
    assert ours.fingerprint == identity
    assert ours.model.manifest["training"] == {"steps": 3}
    assert load(str(tmp_path / "towers")).spec.query.encoder.stack.layers == 1
    theirs = peer.SentenceTransformer(str(tmp_path / "towers"), device="cpu")
    texts = ["a query", "or a document", ""]
    for kind, encode in (("query", theirs.encode_query), ("document", theirs.encode_document)):
        np.testing.assert_allclose(ours.encode(texts, kind=kind), encode(texts), atol=1e-5)
    assert np.abs(ours.encode(texts, kind="query") - ours.encode(texts)).max() > 0.1


def letters() -> TextProcessor:
    """One token per letter, without special tokens; the pooler does not see the prompt."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["[PAD]", "[UNK]", *"abcdefghijklmnopqrstuvwxyz :"]
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    made.add_special_tokens(["[PAD]", "[UNK]"])
    return TextProcessor(made.to_str(), 24, Prompts("ask: ", "", pooled=False))


@pytest.mark.long
@pytest.mark.peers
def test_towers_of_two_tokenizers_read_texts_each_by_its_own(tmp_path):
    peer = pytest.importorskip("sentence_transformers")
    bytewise = dataclasses.replace(of_bytes(32), prompts=Prompts("", "say: "))
    query, document = tower(1, 0, letters()), tower(1, 1, bytewise)
    towers = two_towers(query, document)
    texts = ["a query", "or a document", "a text of more letters than the limit of the queries"]
    ids = {
        side: getattr(towers.processors, side).collate(
            getattr(towers.processors, side).prepare(texts, side), 32
        )
        for side in ("query", "document")
    }
    assert ids["query"].ids.max() < 30 < ids["document"].ids.max()
    assert not ids["query"].pooled[:, :5].any()  # "ask: "
    assert ids["document"].pooled is None
    ours = Embedder(towers)
    saving.save(towers, tmp_path / "towers")
    theirs = peer.SentenceTransformer(str(tmp_path / "towers"), device="cpu")
    for kind, alone in (("query", query), ("document", document)):
        expected = Embedder(alone).encode(texts, kind=kind)
        np.testing.assert_array_equal(ours.encode(texts, kind=kind), expected)
        other = {"query": document, "document": query}[kind]
        assert np.abs(Embedder(other).encode(texts, kind=kind) - expected).max() > 0.1
        read = getattr(theirs, f"encode_{kind}")(texts)
        np.testing.assert_allclose(expected, read, atol=1e-5)
    again = Embedder.load(tmp_path / "towers")
    assert again.model.processors == towers.processors
    assert again.fingerprint == ours.fingerprint


def test_towers_that_do_not_fit_are_told(tmp_path):
    wide = from_scratch(of_bytes(), layers=1, width=32)
    with pytest.raises(UserError, match="its dim 32 differs from the query's, 16"):
        two_towers(from_scratch(of_bytes(), layers=1, width=16), wide)
    with pytest.raises(UserError, match="one tower has weights"):
        two_towers(tower(1, 0), from_scratch(of_bytes(), layers=1, width=16, heads=2))
    with pytest.raises(UserError, match="temperature: expected 0 or more"):
        two_towers(tower(1, 0), temperature=-1.0)
    assert jnp.isfinite(two_towers(wide, temperature=0.5).temperature)


@pytest.mark.long
def test_two_towers_of_one_architecture_keep_their_own_weights():
    made = two_towers(tower(1, 0), tower(1, 1))
    assert not made.spec.shared
    face = functional(made.spec)
    tokens = batch().query
    found = face.query.embed(made.params, tokens)
    apart = found - face.document.embed(made.params, tokens)
    assert float(jnp.abs(apart).max()) > 1e-2
    alone = tower(1, 0)
    expected = functional(alone.spec).document.embed(alone.params, tokens)
    np.testing.assert_allclose(found, expected, atol=1e-6)
