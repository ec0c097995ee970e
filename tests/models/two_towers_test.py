"""Two towers and learned temperatures: what is trained together, saved, and read by others."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gemb.pretrained.pair import load_any, pair
from gemb.pretrained.scratch import from_scratch

from gemb import Embedder, losses
from gemb.checks import UserError
from gemb.export import sentence_transformers as export
from gemb.models.functional import functional, initial_params
from gemb.processors.padding import pad
from gemb.structs import Batch
from gemb.tokenizers.tokenizer import Tokenizer, byte_tokenizer_json
from gemb.training.step import batch_loss


def tower(layers: int, seed: int):
    made = from_scratch(byte_tokenizer_json(), layers=layers, width=16, heads=2, mlp=32)
    params = jax.jit(lambda: initial_params(made.spec, jax.random.key(seed)))()
    return made.trained(made.spec, jax.device_get(params))


@pytest.fixture(scope="module")
def towers():
    return pair(tower(1, 0), tower(2, 1), temperature=0.1)


def batch():
    tokenizer = Tokenizer(byte_tokenizer_json(), 16)
    query = pad(tokenizer.encode(["one", "two", "three"]), 8)
    document = pad(tokenizer.encode(["first text", "second", "the third"]), 12)
    number, real = np.arange(3, dtype=np.int32), np.ones(3, bool)
    return Batch(query, document, number, number, number, real, real)


def test_each_side_goes_through_its_own_tower(towers):
    one = batch()
    loss = partial(losses.info_nce, temperature=7.0)
    value, metrics = jax.jit(partial(batch_loss, towers.spec, loss))(towers.params, one)
    query, document = (
        jax.jit(functional(side.spec).apply)(side.params, tokens)
        for side, tokens in ((towers.query, one.query), (towers.document, one.document))
    )
    scores = np.asarray(query @ document.T, np.float64) / 0.1  # the learned one, not the loss's
    expected = np.mean(np.log(np.exp(scores).sum(1)) - np.diag(scores))
    assert float(value) == pytest.approx(expected, rel=1e-5)
    assert float(metrics["temperature"]) == pytest.approx(0.1, rel=1e-6)


def test_the_temperature_and_both_towers_receive_gradients(towers):
    gradients = jax.jit(
        jax.grad(lambda p: batch_loss(towers.spec, losses.info_nce, p, batch())[0])
    )(towers.params)
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
    shared = pair(alone, temperature=0.05)
    assert shared.params.keys() == alone.params.keys() | {"temperature/log"}
    back = shared.trained(shared.spec, shared.params)
    assert back.spec == alone.spec
    assert back.params.keys() == alone.params.keys()


@pytest.mark.peers
def test_saved_towers_are_a_router_of_sentence_transformers(towers, tmp_path):
    peer = pytest.importorskip("sentence_transformers")
    identity = export.save(towers, tmp_path / "towers", training={"steps": 3})
    ours = Embedder.load(tmp_path / "towers")
    assert ours.fingerprint == identity
    assert ours.pretrained.manifest["training"] == {"steps": 3}
    assert load_any(str(tmp_path / "towers")).spec.query.text.stack.layers == 1
    theirs = peer.SentenceTransformer(str(tmp_path / "towers"), device="cpu")
    texts = ["a query", "or a document", ""]
    for kind, encode in (("query", theirs.encode_query), ("document", theirs.encode_document)):
        np.testing.assert_allclose(ours.encode(texts, kind=kind), encode(texts), atol=1e-5)
    assert np.abs(ours.encode(texts, kind="query") - ours.encode(texts)).max() > 0.1


def test_towers_that_do_not_fit_are_told(tmp_path):
    wide = from_scratch(byte_tokenizer_json(), layers=1, width=32)
    unseen = tower(1, 0)
    unseen = unseen.trained(dataclasses.replace(unseen.spec, pool_prompt=False), unseen.params)
    with pytest.raises(UserError, match="its pooler sees its prompts and the query's does not"):
        pair(unseen, tower(1, 1))
    with pytest.raises(UserError, match="its dim 32 is not the query's, 16"):
        pair(from_scratch(byte_tokenizer_json(), layers=1, width=16), wide)
    with pytest.raises(UserError, match="one tower has weights"):
        pair(tower(1, 0), from_scratch(byte_tokenizer_json(), layers=1, width=16, heads=2))
    with pytest.raises(UserError, match="temperature: expected 0 or more"):
        pair(tower(1, 0), temperature=-1.0)
    assert jnp.isfinite(pair(wide, temperature=0.5).temperature)


def test_two_towers_of_one_architecture_keep_their_own_weights():
    made = pair(tower(1, 0), tower(1, 1))
    assert not made.spec.shared
    face = functional(made.spec)
    tokens = batch().query
    apart = face.query(made.params, tokens) - face.apply(made.params, tokens)
    assert float(jnp.abs(apart).max()) > 1e-2
    expected = functional(made.query.spec).apply(made.query.params, tokens)
    np.testing.assert_allclose(face.query(made.params, tokens), expected, atol=1e-6)
