"""InfoNCE and its relations against cell-by-cell numpy."""

import functools

import jax
import jax.numpy as jnp
import losses_reference as reference
import numpy as np
import pytest
from jax.test_util import check_grads

from gemb import losses
from gemb.losses import Fields, candidates
from gemb.losses.contrastive import joint

OPTIONS = {
    "plain": {},
    "margin": {"margin": 0.2},
    "smoothed": {"label_smoothing": 0.1},
    "hard": {"hardness": 5.0},
    "dropped": {"drop_margin": 0.1},
    "own negatives": {"share_negatives": False},
    "all": {"margin": 0.1, "label_smoothing": 0.05, "hardness": 2.0, "drop_margin": 0.4},
}
FIELDS = ("query_id", "document_id", "query_mask", "document_mask", "weights", "in_batch")
BOTH = (("query_to_document",), ("document_to_query",))


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def split(batch):
    arrays = [batch[name] for name in ("query", "document", "positive")]
    return arrays, {name: batch[name] for name in FIELDS}


@pytest.mark.long
@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("symmetric", [False, True])
def test_info_nce_equals_the_formula(name, symmetric):
    arrays, chosen = split(reference.make(seed=len(name)))
    options = {"temperature": 0.3, **OPTIONS[name]}
    loss = functools.partial(losses.info_nce, symmetric=symmetric, **options)
    got = jax.jit(loss)(*arrays, fields=Fields(**chosen))
    softmaxes = BOTH if symmetric else BOTH[:1]
    want = reference.info_nce(*arrays, softmaxes=softmaxes, **options, **chosen)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)


@pytest.mark.long
@pytest.mark.parametrize("field", FIELDS)
def test_each_field_alone_changes_the_loss(field):
    arrays, fields = split(reference.make(seed=3))
    ids = {"document_id": fields["document_id"]} if field == "query_id" else {}
    got = losses.info_nce(*arrays, fields=Fields(**ids, **{field: fields[field]}))
    want = reference.info_nce(*arrays, **ids, **{field: fields[field]})
    assert not np.allclose(got, losses.info_nce(*arrays, fields=Fields(**ids)), rtol=1e-9)
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "directions", [joint.GTE_DIRECTIONS, joint.GIST_DIRECTIONS], ids=["gte", "gist"]
)
def test_joint_equals_the_formula(directions):
    arrays, fields = split(reference.make(seed=5))
    options = {"temperature": 0.2, "hardness": 3.0, "margin": 0.1, "drop_margin": 0.3}
    got = losses.joint_info_nce(*arrays, directions=directions, **options, fields=Fields(**fields))
    want = reference.info_nce(*arrays, softmaxes=(directions,), **options, **fields)
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("relative", [False, True])
def test_gist_equals_the_formula(relative):
    arrays, fields = split(reference.make(seed=6))
    rng = np.random.default_rng(7)
    guide = reference.unit(rng, 6, 3), reference.unit(rng, 18, 3)
    options = {"temperature": 0.2, "guide_margin": 0.2, "guide_relative": relative}
    softmaxes = (joint.GIST_DIRECTIONS,)
    want = reference.info_nce(*arrays, softmaxes=softmaxes, guide=guide, **options, **fields)
    guide = {"guide_query": jnp.asarray(guide[0]), "guide_document": jnp.asarray(guide[1])}
    got = losses.gist(*arrays, **options, fields=Fields(**guide, **fields))
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)


@pytest.mark.long
def test_equal_vectors_cost_log_candidates():
    rows = jnp.ones((12, 1))
    got = losses.info_nce(rows[:4], rows, jnp.arange(4), symmetric=True)
    np.testing.assert_allclose(got, (np.log(12) + np.log(4)) / 2, rtol=1e-12)


def test_a_masked_duplicate_changes_nothing():
    (query, document, positive), _ = split(reference.make(seed=1, negatives=0))
    twice = jnp.concatenate([document, document[:2]])
    mask = jnp.arange(len(twice)) < len(document)
    got = losses.info_nce(query, twice, positive, fields=Fields(document_mask=mask))
    assert not np.allclose(got, losses.info_nce(query, twice, positive))
    np.testing.assert_allclose(got, losses.info_nce(query, document, positive), rtol=1e-12)


def test_equal_queries_do_not_repel_each_others_positives():
    (query, document, positive), _ = split(reference.make(seed=1, negatives=0))
    ids = {"query_id": jnp.asarray([0, 0, 1, 2, 3, 4]), "document_id": jnp.arange(6)}

    def first(document):
        return losses.info_nce(query, document, positive, fields=Fields(**ids))[0]

    slope = jax.jit(jax.grad(first))(document)
    assert np.all(slope[positive[1]] == 0)
    assert np.any(slope[positive[2]] != 0)


@pytest.mark.long
def test_hard_negatives_that_are_positives_elsewhere_leave():
    positive = jnp.arange(2)
    known, first, count = candidates.known_positives(
        jnp.asarray([5, 5]), jnp.asarray([10, 11]), jnp.asarray([True, True])
    )
    queries = candidates.Queries(*[None] * 5, jnp.asarray([10, 11]), first, count)
    hit = candidates.is_known(queries, jnp.asarray([10, 11, 12, 11]), known)
    np.testing.assert_array_equal(hit, [[True, True, False, True]] * 2)
    np.testing.assert_array_equal(candidates.owners(positive, 6), [-1, -1, 0, 0, 1, 1])


def test_owners_follow_positives_wherever_they_stand():
    # two hosts of two queries and one negative each: positives, negatives, positives, negatives
    positive = jnp.asarray([0, 1, 4, 5])
    np.testing.assert_array_equal(candidates.owners(positive, 8), [-1, -1, 0, 1, -1, -1, 2, 3])
    np.testing.assert_array_equal(candidates.negatives_of(positive, 8), [[2], [3], [6], [7]])


def test_gradients():
    (query, document, positive), fields = split(reference.make(seed=2))

    @jax.jit
    def loss(query, document, temperature):
        return losses.info_nce(
            query,
            document,
            positive,
            temperature=temperature,
            symmetric=True,
            label_smoothing=0.1,
            fields=Fields(**fields),
        )

    check_grads(loss, (query, document, 0.3), order=1, modes=("fwd", "rev"), atol=1e-6, rtol=1e-6)


def test_bad_arguments_are_named():
    arrays, _ = split(reference.make())
    with pytest.raises(ValueError, match="directions: expected query_to_document"):
        losses.joint_info_nce(*arrays, directions=("query_to_query",))
    with pytest.raises(ValueError, match="guide_query"):
        losses.gist(*arrays)
    with pytest.raises(ValueError, match="multiple of 6"):
        losses.info_nce(arrays[0], arrays[1][:7], arrays[2], share_negatives=False)
    with pytest.raises(ValueError, match="block: expected at least 1"):
        losses.info_nce(*arrays, form=losses.Blockwise(block=0))
    with pytest.raises(ValueError, match="form: expected 'dense' or 'blockwise' or 'ring'"):
        losses.info_nce(*arrays, form="rign")
    with pytest.raises(ValueError, match=r"form: expected 'dense' or 'blockwise' or losses.Block"):
        losses.sigmoid(*arrays, form="ring")


@pytest.mark.parametrize(
    "name", ["info_nce", "joint_info_nce", "gist", "multi_positive", "score_kl"]
)
def test_a_temperature_among_the_fields_replaces_the_option(name):
    arrays, fields = split(reference.make(seed=4))
    fields |= {"guide_query": arrays[0], "guide_document": arrays[1]}
    fields |= {"teacher_query": arrays[0][::-1], "teacher_document": arrays[1]}
    loss = getattr(losses, name)
    got = loss(*arrays, temperature=0.3, fields=Fields(temperature=jnp.asarray(0.2), **fields))
    assert not np.allclose(got, loss(*arrays, temperature=0.3, fields=Fields(**fields)))
    np.testing.assert_allclose(
        got, loss(*arrays, temperature=0.2, fields=Fields(**fields)), rtol=1e-12, atol=1e-14
    )
