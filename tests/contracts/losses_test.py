"""Every public loss is a row of a table, and gets the same checks."""

import functools
import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gemb import losses

BATCH, NEGATIVES, DIM = 6, 1, 8
CANDIDATES = BATCH * (1 + NEGATIVES)
LOG = np.log(CANDIDATES)
WIDTHS = (8, 4)
TERMS = {"contrast": losses.info_nce, "spread": losses.spread_out}

# loss and form -> its options, and its value where all vectors and all teachers' are equal,
# texts differ, and the grades of the pairs are 0, 1, 2 ...
TABLE = {
    "alignment": ({}, 0.0),
    "backward_compatible": ({}, 2 * LOG),
    "cosent": ({}, np.log(1 + BATCH * (BATCH - 1) / 2)),
    "cosine_regression": ({}, np.square(1 - np.arange(BATCH))),
    "embedding_distance": ({}, 0.0),
    # one negative of a catalogue of two: beta is 1
    "generalized_bce": ({"catalogue": 2}, np.log1p(np.exp(-1)) + np.log1p(np.e)),
    # q->d and, without the row's own pair, q->q and p->p; log_q is -1, of documents alone
    "gist": ({"guide_margin": -3.0}, np.log(CANDIDATES + (BATCH - 1) + (BATCH - 1) / np.e)),
    "global_orthogonal": ({}, 1 + (1 - 1 / DIM)),
    "info_nce": ({}, LOG),
    "info_nce, blockwise": ({"form": "blockwise"}, LOG),
    "info_nce, ring": ({"form": "ring"}, LOG),
    "jasper": ({}, 0.0),
    "jasper_cosine": ({}, 0.0),
    # q->d, q->q without itself, d->q, d->d without the query's own documents
    "joint_info_nce": ({}, np.log(2 * CANDIDATES - 1 - NEGATIVES + (2 * BATCH - 1) / np.e)),
    "layerwise_distance": ({}, np.arange(BATCH) + 2.0),
    "margin_mse": ({}, 0.0),
    "matryoshka": ({"widths": WIDTHS}, 2 * LOG),
    "matryoshka_2d": ({"widths": WIDTHS}, 4 * LOG),
    "multi_positive": ({}, LOG),
    "nested_classification": ({"widths": WIDTHS}, 2 * LOG),
    "relative_similarity": ({}, 0.0),
    "sampled_softmax": ({}, LOG),
    "sampled_softmax, blockwise": ({"form": "blockwise"}, LOG),
    "sampled_softmax, ring": ({"form": "ring"}, LOG),
    # log_q is -1 everywhere: the negatives' mean is e times the positive
    "sampled_softmax, spared": ({"log_q_positive": False}, 1 / (1 + np.exp(-1))),
    "score_kl": ({}, 0.0),
    "score_mse": ({}, 0.0),
    "sigmoid": ({}, CANDIDATES * np.log(2)),
    "similarity": ({}, 0.0),
    "spread_out": ({}, 2.0),
    "triplet": ({"margin": 0.2}, 0.2),
    "uniformity": ({}, 0.0),
    "weighted_sum": ({"terms": TERMS, "term_weights": {"spread": 0.5}}, LOG + 1.0),
}
NO_LOSSES = {"NO_FIELDS", "Blockwise", "Fields", "Ring"}
NO_LOSSES |= {"concatenate_teachers", "evaluate", "hidden_state_distance"}
COMBINATORS = {"matryoshka", "matryoshka_2d", "weighted_sum"}  # they pass their fields on
NESTED = {"matryoshka", "matryoshka_2d", "nested_classification"}  # coordinates have an order


def unit(rng, *shape):
    rows = rng.normal(size=shape)
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def example(seed=0):
    """Arguments that suit every loss: random vectors, different texts, everything real."""
    rng = np.random.default_rng(seed)
    return {
        "query": unit(rng, BATCH, DIM),
        "document": unit(rng, CANDIDATES, DIM),
        "positive": rng.permutation(BATCH).astype(np.int32),
        "query_id": np.arange(BATCH, dtype=np.int32),
        "document_id": np.arange(CANDIDATES, dtype=np.int32),
        "query_mask": np.ones(BATCH, bool),
        "document_mask": np.ones(CANDIDATES, bool),
        "weights": np.ones(BATCH, np.float32),
        "in_batch": np.ones(BATCH, bool),
        "scores": np.arange(BATCH, dtype=np.float32),
        "log_q": np.full(CANDIDATES, -1.0, np.float32),
        "guide_query": unit(rng, BATCH, DIM),
        "guide_document": unit(rng, CANDIDATES, DIM),
        "teacher_query": unit(rng, BATCH, DIM),
        "teacher_document": unit(rng, CANDIDATES, DIM),
        "query_layerwise": np.arange(BATCH, dtype=np.float32),
        "document_layerwise": np.ones(CANDIDATES, np.float32),
        "query_layers": unit(rng, 2, BATCH, DIM),
        "document_layers": unit(rng, 2, CANDIDATES, DIM),
    }


def loss_of(name):
    """The function of a row of the table."""
    return getattr(losses, name.split(",")[0])


def value_of(name, batch):
    """[batch] losses."""
    loss = functools.partial(loss_of(name), **TABLE[name][0])
    fields = {k: v for k, v in batch.items() if k not in ("query", "document", "positive")}
    arrays = batch["query"], batch["document"], batch["positive"]
    return losses.evaluate(loss, *arrays, fields)[0]


@functools.cache
def compiled(name):
    """A loss with its gradients, compiled once for all checks."""

    def total(vectors, batch):
        value = value_of(name, batch | vectors)
        return jnp.sum(value), value

    return jax.jit(jax.value_and_grad(total, has_aux=True))


def run(name, batch):
    """[batch] losses, and gradients to queries and documents."""
    vectors = {side: batch[side] for side in ("query", "document")}
    (_, value), slopes = compiled(name)(vectors, batch)
    return np.asarray(value), slopes["query"], slopes["document"]


@pytest.fixture(autouse=True, scope="module")
def _mesh():
    axes = (jax.sharding.AxisType.Auto,) * 3
    with jax.set_mesh(jax.make_mesh((1, 1, 1), ("replica", "fsdp", "tensor"), axis_types=axes)):
        yield


def test_the_table_holds_every_loss():
    assert set(losses.__all__) == {name.split(",")[0] for name in TABLE} | NO_LOSSES

    def order(name):  # as ruff sorts: constants, classes, functions
        return not name.isupper(), not name[0].isupper(), name

    assert sorted(losses.__all__, key=order) == losses.__all__


@pytest.mark.long
@pytest.mark.parametrize("name", TABLE)
def test_equal_vectors(name):
    batch = example()
    for field in batch:
        if np.ndim(batch[field]) > 1:
            batch[field] = np.zeros_like(batch[field])
            batch[field][..., 0] = 1
    value, *slopes = run(name, batch)
    np.testing.assert_allclose(value, np.full(BATCH, TABLE[name][1]), rtol=1e-5, atol=1e-5)
    assert all(np.all(np.isfinite(slope)) for slope in slopes)


@pytest.mark.parametrize("name", TABLE)
def test_order_does_not_matter(name):
    batch, rng = example(), np.random.default_rng(1)
    rows, places = rng.permutation(BATCH), rng.permutation(BATCH)
    columns = np.concatenate([places, BATCH + rows])  # one negative for each query, in order
    turned = dict(batch)
    for field, array in batch.items():
        axis = -2 if array.ndim > 1 else 0
        turned[field] = np.take(array, rows if array.shape[axis] == BATCH else columns, axis=axis)
    turned["positive"] = np.argsort(places)[batch["positive"][rows]].astype(np.int32)
    one, other = run(name, batch), run(name, turned)
    assert not np.allclose(batch["query"], turned["query"])
    np.testing.assert_allclose(other[0], one[0][rows], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(other[1], one[1][rows], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(other[2], one[2][columns], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", sorted(set(TABLE) - NESTED))
def test_rotation_does_not_matter(name):
    batch = example()
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(DIM, DIM)))[0].astype(np.float32)
    turned = {field: x @ turn if x.ndim > 1 else x for field, x in batch.items()}
    one, other = run(name, batch), run(name, turned)
    np.testing.assert_allclose(other[0], one[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(other[1], one[1] @ turn, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", TABLE)
def test_a_masked_row_costs_nothing_and_moves_nothing(name):
    batch = example()
    batch["query_mask"][2] = False
    value, d_query, _ = run(name, batch)
    assert value[2] == 0
    assert np.all(d_query[2] == 0)
    other = dict(batch, query=batch["query"].copy())
    other["query"][2] = -other["query"][3]
    if name != "matryoshka_2d":
        np.testing.assert_allclose(run(name, other)[0], value, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", TABLE)
def test_a_masked_document_leaves(name):
    batch = example()
    batch["document_mask"][BATCH + 1] = False
    value, _, d_document = run(name, batch)
    assert np.all(d_document[BATCH + 1] == 0)
    other = dict(batch, document=batch["document"].copy())
    other["document"][BATCH + 1] = other["query"][0]
    np.testing.assert_allclose(run(name, other)[0], value, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", TABLE)
def test_weights_multiply(name):
    batch = example()
    whole = run(name, batch)[0]
    batch["weights"] = np.arange(BATCH, dtype=np.float32) / 3
    np.testing.assert_allclose(run(name, batch)[0], whole * batch["weights"], rtol=1e-5, atol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("name", TABLE)
def test_half_precision_is_only_read(name):
    batch = example()
    half = {k: x.astype(jnp.bfloat16) if x.ndim > 1 else x for k, x in batch.items()}
    rounded = {k: x.astype(np.float32) if batch[k].ndim > 1 else x for k, x in half.items()}
    value = jax.jit(functools.partial(value_of, name))(half)
    assert value.dtype == np.float32
    np.testing.assert_allclose(value, run(name, rounded)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", TABLE)
def test_huge_scores_stay_finite(name):
    batch = example()
    for side in ("query", "document", "query_layers", "document_layers"):
        batch[side] = batch[side] * 100  # scores of 1e4, and logits beyond
    for array in run(name, batch):
        assert np.all(np.isfinite(array))


@pytest.mark.parametrize("name", TABLE)
def test_errors_name_the_argument(name):
    batch = example()
    wrong = {
        "query": batch["query"][0],
        "document": batch["document"][:, :-1],
        "positive": batch["positive"].astype(np.float32),
        "query_mask": batch["query_mask"].astype(np.int32),
        "document_mask": batch["document_mask"][:-1],
    }
    for argument, array in wrong.items():
        with pytest.raises(ValueError, match=f"{argument}: expected"):
            value_of(name, batch | {argument: array})


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(set(TABLE) - COMBINATORS))
def test_a_loss_reads_the_fields_that_its_docstring_names(name):
    """A wrong shape is an error in a field that the loss reads, and changes nothing in others."""
    entry = re.search(r"^ +fields: (.*?)\n\n", inspect.getdoc(loss_of(name)), re.M | re.S)[1]
    assert "masks" in entry
    named = {*re.findall(r"\w+", entry)} & {*losses.Fields._fields}
    batch = example() | {"temperature": np.float32(0.05)}
    whole = value_of(name, batch)
    for field in sorted(set(losses.Fields._fields) - {"key", "classifiers", "teacher_scores"}):
        wrong = batch | {field: np.zeros((3, 5, 7, 1))}
        if field in named | {"query_mask", "document_mask", "weights"}:
            with pytest.raises(ValueError, match=f"^{field}: expected shape"):
                value_of(name, wrong)
        else:
            np.testing.assert_array_equal(value_of(name, wrong), whole)


def test_every_loss_has_the_one_signature():
    for name in TABLE:
        parameters = inspect.signature(loss_of(name)).parameters
        assert list(parameters)[:3] == ["query", "document", "positive"], name
        assert all(p.kind is p.KEYWORD_ONLY for p in list(parameters.values())[3:]), name
        assert list(parameters)[-1] == "fields", name
        assert parameters["fields"].default == losses.NO_FIELDS, name
        assert len(parameters) <= 12, name


NEEDS = {
    "backward_compatible": ("teacher_document", "set TEACHER"),
    "cosent": ("scores", "graded pairs"),
    "cosine_regression": ("scores", "graded pairs"),
    "embedding_distance": (
        "teacher_document",
        "set TEACHER to a teacher of vectors",
    ),
    "gist": ("guide_document", "set TEACHER to teachers.guide"),
    "jasper": ("teacher_document", "set TEACHER"),
    "jasper_cosine": ("teacher_document", "set TEACHER"),
    "layerwise_distance": (
        "query_layerwise",
        "set TEACHER to teachers.layerwise",
    ),
    "margin_mse": ("teacher_scores", "set TEACHER"),
    "matryoshka_2d": ("query_layers", "set OBJECTIVE to objectives.earlier_layers"),
    "relative_similarity": ("teacher_document", "set TEACHER"),
    "sampled_softmax": ("log_q", "train on interactions"),
    "sampled_softmax, blockwise": ("log_q", "train on interactions"),
    "sampled_softmax, ring": ("log_q", "train on interactions"),
    "sampled_softmax, spared": ("log_q", "train on interactions"),
    "score_kl": ("teacher_scores", "set TEACHER"),
    "score_mse": ("teacher_scores", "set TEACHER"),
    "similarity": ("teacher_document", "set TEACHER"),
}


@pytest.mark.parametrize("name", TABLE)
def test_a_missing_field_is_named_with_who_gives_it(name):
    batch = {k: x for k, x in example().items() if k in ("query", "document", "positive")}
    if name in NEEDS:
        field, giver = NEEDS[name]
        given = field.replace("document", "query")  # half of what is needed
        batch |= {given: example()[given]} if given != field else {}
        with pytest.raises(ValueError, match=f"^{field}: expected .*`fields`.*; .*{giver}"):
            value_of(name, batch)
    else:
        assert value_of(name, batch).shape == (BATCH,)


def test_fields_are_one_value():
    assert losses.Fields.of({}) == losses.NO_FIELDS
    with pytest.raises(ValueError, match=r"fields: unknown 'wieghts'. Did you mean weights\?"):
        value_of("alignment", example() | {"wieghts": np.ones(BATCH)})
    with pytest.raises(ValueError, match=r"fields: expected losses.Fields or a dict, got list"):
        losses.alignment(jnp.eye(2), jnp.eye(2), jnp.arange(2), fields=[1])
