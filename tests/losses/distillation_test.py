"""Distillation against formulas in numpy, and the three forms of Jasper's hinge."""

import itertools

import jax
import jax.numpy as jnp
import losses_reference as reference
import numpy as np
import pytest
from jax.test_util import check_grads

from gemb import losses
from gemb.losses import Fields
from gemb.losses.distillation import ordering


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def pupils(seed=0, dim=5, teacher_dim=5, batch=4, negatives=2):
    """Arrays of a student, a teacher and masks, and the same in numpy."""
    made = reference.make(seed, batch=batch, negatives=negatives, dim=dim)
    rng = np.random.default_rng(seed + 100)
    made["teacher_query"] = jnp.asarray(reference.unit(rng, batch, teacher_dim))
    made["teacher_document"] = jnp.asarray(
        reference.unit(rng, batch * (1 + negatives), teacher_dim)
    )
    for name in ("query_id", "document_id", "in_batch"):
        del made[name]
    plain = {name: np.asarray(array) for name, array in made.items()}
    arrays = [made.pop(name) for name in ("query", "document", "positive")]
    real = plain["query_mask"] & plain["document_mask"][plain["positive"]]
    return arrays, made, plain, plain["weights"] * real


def own_negatives(plain):
    """Each query's real hard negatives."""
    owner = reference.owners(list(plain["positive"]), len(plain["document"]))
    return [
        [j for j, who in enumerate(owner) if who == i and plain["document_mask"][j]]
        for i in range(len(plain["query"]))
    ]


@pytest.mark.parametrize("own_only", [False, True])
def test_score_losses(own_only):
    arrays, fields, plain, weight = pupils(1, teacher_dim=3)
    student = plain["query"] @ plain["document"].T
    teacher = plain["teacher_query"] @ plain["teacher_document"].T
    mse, kl = [], []
    for i, negatives in enumerate(own_negatives(plain)):
        p = plain["positive"][i]
        look = {p, *negatives} if own_only else {p, *np.flatnonzero(plain["document_mask"])}
        look = sorted(look)
        s, t = student[i, look], teacher[i, look]
        mse.append(np.mean((s - t) ** 2))
        got, aim = (np.exp(x) / np.exp(x).sum() for x in (s / 0.2, t / 0.3))
        kl.append(np.sum(aim * np.log(aim / got)))
    value = losses.score_mse(*arrays, own_only=own_only, fields=Fields(**fields))
    np.testing.assert_allclose(value, weight * mse, rtol=1e-10)
    options = {"temperature": 0.2, "teacher_temperature": 0.3, "own_only": own_only}
    value = losses.score_kl(*arrays, **options, fields=Fields(**fields))
    np.testing.assert_allclose(value, weight * kl, rtol=1e-10)


def test_margin_mse_and_given_scores():
    arrays, fields, plain, weight = pupils(2, teacher_dim=3)
    student = plain["query"] @ plain["document"].T
    teacher = plain["teacher_query"] @ plain["teacher_document"].T
    want = []
    for i, negatives in enumerate(own_negatives(plain)):
        lead = (student[i] - teacher[i])[plain["positive"][i]]
        want.append(np.mean([(lead - (student - teacher)[i, n]) ** 2 for n in negatives] or [0]))
    got = losses.margin_mse(*arrays, fields=Fields(**fields))
    np.testing.assert_allclose(got, weight * want, rtol=1e-10)
    for name in ("teacher_query", "teacher_document"):
        del fields[name]
    scores = {"teacher_scores": jnp.asarray(teacher)}
    same = losses.margin_mse(*arrays, fields=Fields(**scores, **fields))
    np.testing.assert_allclose(same, got, rtol=1e-12)
    with pytest.raises(ValueError, match="teacher_scores: expected either"):
        losses.margin_mse(*arrays, fields=Fields(**fields))


@pytest.mark.parametrize("distance", ["cosine", "l2", "mse"])
def test_embedding_distance(distance):
    arrays, fields, plain, weight = pupils(3)

    def away(x, y):
        gap = np.sum((x - y) ** 2)
        return {"cosine": 1 - x @ y, "l2": np.sqrt(gap), "mse": gap / len(x)}[distance]

    far = [away(*pair) for pair in zip(plain["document"], plain["teacher_document"], strict=True)]
    want = [
        away(plain["query"][i], plain["teacher_query"][i])
        + far[plain["positive"][i]]
        + np.mean([far[n] for n in negatives] or [0])
        for i, negatives in enumerate(own_negatives(plain))
    ]
    got = losses.embedding_distance(*arrays, distance=distance, fields=Fields(**fields))
    np.testing.assert_allclose(got, weight * want, rtol=1e-10)


def test_layers_against_layers():
    rng, (layers, length, width) = np.random.default_rng(4), (3, 6, 5)
    arrays, fields, plain, weight = pupils(3)
    far = {}
    for side in ("query", "document"):
        rows = len(plain[side])
        states, teacher = rng.normal(size=(2, layers, rows, length, width)) + 1.0
        counts = rng.integers(0, length + 1, rows)  # of no token too
        mask = np.arange(length) < counts[:, None]
        far[side] = np.zeros(rows)
        for row in np.flatnonzero(counts):
            for own, its in zip(states, teacher, strict=True):
                spread = np.sum(np.var(its[mask], axis=0))
                gaps = np.sum((own[row] - its[row])[: counts[row]] ** 2, axis=1)
                far[side][row] += np.mean(gaps) / spread / layers
        got = losses.hidden_state_distance(*map(jnp.asarray, (states, teacher, mask)))
        np.testing.assert_allclose(got, far[side], rtol=1e-10)
    fields = {name: fields[name] for name in ("query_mask", "document_mask", "weights")}
    got = losses.layerwise_distance(
        *arrays,
        fields=Fields(
            query_layerwise=jnp.asarray(far["query"]),
            document_layerwise=jnp.asarray(far["document"]),
            **fields,
        ),
    )
    want = [
        far["query"][i]
        + far["document"][plain["positive"][i]]
        + np.mean([far["document"][n] for n in negatives] or [0])
        for i, negatives in enumerate(own_negatives(plain))
    ]
    np.testing.assert_allclose(got, weight * want, rtol=1e-10)


def test_layers_that_do_not_fit_are_named():
    states, mask = jnp.zeros((2, 3, 4, 5)), jnp.ones((3, 4), bool)
    with pytest.raises(ValueError, match="teacher: expected"):
        losses.hidden_state_distance(states, states[:1], mask)
    with pytest.raises(ValueError, match="mask: expected"):
        losses.hidden_state_distance(states, states, mask[:1])
    with pytest.raises(ValueError, match="query_layerwise: expected the distances"):
        losses.layerwise_distance(jnp.eye(2), jnp.eye(2), jnp.arange(2))


def test_teachers_of_another_width_need_a_head():
    arrays, fields, _, _ = pupils(teacher_dim=3)
    with pytest.raises(ValueError, match="projection head"):
        losses.embedding_distance(*arrays, fields=Fields(**fields))
    with pytest.raises(ValueError, match="projection head"):
        losses.jasper_cosine(*arrays, fields=Fields(**fields))
    with pytest.raises(ValueError, match="teacher_query: expected the teacher's vectors"):
        losses.similarity(*arrays)


def test_several_teachers_count_the_same_or_by_their_weights():
    rng = np.random.default_rng(4)
    one, two = rng.normal(size=(5, 3)), 100 * rng.normal(size=(5, 7))
    unit = [t / np.linalg.norm(t, axis=1, keepdims=True) for t in (one, two)]
    one, two = jnp.asarray(one), jnp.asarray(two)
    joint = np.asarray(losses.concatenate_teachers(one, two))
    np.testing.assert_allclose(joint @ joint.T, sum(u @ u.T for u in unit) / 2, atol=1e-12)
    on_host = losses.concatenate_teachers(np.asarray(one), np.asarray(two))
    assert isinstance(on_host, np.ndarray)  # made without the device, which trains meanwhile
    np.testing.assert_allclose(on_host, joint, atol=1e-12)
    weighted = np.asarray(losses.concatenate_teachers(one, two, weights=(1.0, 3.0)))
    cosines = (unit[0] @ unit[0].T + 9 * unit[1] @ unit[1].T) / 10
    np.testing.assert_allclose(weighted @ weighted.T, cosines, atol=1e-12)
    with pytest.raises(ValueError, match="expected at least one"):
        losses.concatenate_teachers()
    for wrong in [(1.0,), (1.0, 0.0), (1.0, float("nan"))]:
        with pytest.raises(ValueError, match="weights: expected one above zero for each of 2"):
            losses.concatenate_teachers(one, two, weights=wrong)


def brute_force(scores, aims, real, margin):
    """The mean hinge, pair of pairs by pair of pairs."""
    hinges = []
    for a, b in itertools.combinations(np.flatnonzero(real), 2):
        p, n = (a, b) if aims[a] > aims[b] else (b, a)
        tie = aims[a] == aims[b]
        hinges.append(0.0 if tie else max(0.0, scores[n] - scores[p] + margin))
    return np.mean(hinges)


def numbers(size=496, ties=True):
    """Scores, aims with ties, and a mask: as many as 32 texts have pairs."""
    rng = np.random.default_rng(5)
    aims = rng.integers(0, 40, size) / 10 if ties else rng.normal(size=size)
    scores = np.where(rng.random(size) > 0.2, rng.normal(size=size), 0.25)
    return [jnp.asarray(x) for x in (scores, aims, rng.random(size) > 0.1)]


def test_sorted_equals_blockwise_equals_brute_force():
    scores, aims, real = numbers()
    want = brute_force(*map(np.asarray, (scores, aims, real)), 0.3)
    by_sorting = jax.jit(jax.value_and_grad(ordering.hinge_sorted), static_argnums=3)
    by_block = jax.jit(jax.value_and_grad(ordering.hinge_blockwise), static_argnums=(3, 4))
    one, two = by_sorting(scores, aims, real, 0.3), by_block(scores, aims, real, 0.3, 100)
    np.testing.assert_allclose(one[0], want, rtol=1e-10)
    np.testing.assert_allclose(two[0], want, rtol=1e-10)
    assert np.any(one[1] != 0)
    np.testing.assert_allclose(one[1], two[1], rtol=1e-10, atol=1e-14)


def test_sampled_is_unbiased():
    scores, aims, real = numbers()
    exact = brute_force(*map(np.asarray, (scores, aims, real)), 0.3)
    keys = jax.random.split(jax.random.key(0), 1000)
    draw = jax.jit(jax.vmap(lambda key: ordering.hinge_sampled(scores, aims, real, 0.3, 64, key)))
    drawn = np.asarray(draw(keys))
    assert abs(drawn.mean() - exact) < 3 * drawn.std() / np.sqrt(1000)


def test_counting_below():
    rng = np.random.default_rng(6)
    values = rng.integers(0, 9, 37) * 1.0
    stop = rng.integers(0, 38, 50)
    bound = rng.integers(0, 11, 50)
    limit = np.searchsorted(np.sort(values), bound)
    want = [np.sum(values[:s] < b) for s, b in zip(stop, bound, strict=True)]
    got = ordering.count_below(*map(jnp.asarray, (values, stop, limit)))
    np.testing.assert_array_equal(got, want)


def test_jasper_terms():
    arrays, fields, plain, weight = pupils(7)
    real = np.concatenate([plain["query_mask"], plain["document_mask"]])
    s = np.concatenate([plain["query"], plain["document"]])[real]
    t = np.concatenate([plain["teacher_query"], plain["teacher_document"]])[real]
    pairs = list(itertools.combinations(range(len(s)), 2))
    near = [np.array([rows[i] @ rows[j] for i, j in pairs]) for rows in (s, t)]
    want = {
        "cosine": np.mean(1 - np.sum(s * t, axis=1)),
        "similarity": np.mean((s @ s.T - t @ t.T) ** 2),
        "relative": brute_force(*near, np.ones(len(pairs), bool), 0.015),
    }
    total, terms = jax.jit(losses.jasper)(*arrays, fields=Fields(**fields))
    assert sorted(terms) == sorted(want)
    for name, value in want.items():
        np.testing.assert_allclose(terms[name], weight * value, rtol=1e-10)
    whole = 10 * want["cosine"] + 200 * want["similarity"] + 20 * want["relative"]
    np.testing.assert_allclose(total, weight * whole, rtol=1e-10)


@pytest.mark.long
@pytest.mark.parametrize("form", ["sorted", "sampled"])
def test_relative_similarity_gradients(form):
    (query, document, positive), fields, _, _ = pupils(8, batch=3, negatives=0, teacher_dim=7)

    @jax.jit
    def loss(query, document):
        chosen = {"margin": 0.5, "form": form, "samples": 50}
        taught = Fields(key=jax.random.key(0), **fields)
        return losses.relative_similarity(query, document, positive, **chosen, fields=taught)

    check_grads(loss, (query, document), order=1, modes=("fwd", "rev"), atol=1e-6, rtol=1e-6)
    with pytest.raises(ValueError, match="key: expected"):
        losses.relative_similarity(
            query, document, positive, form="sampled", fields=Fields(**fields)
        )


@pytest.mark.long
def test_relative_similarity_has_one_value_in_both_exact_forms():
    arrays, fields, _, _ = pupils(9)
    one = losses.relative_similarity(*arrays, margin=0.3, fields=Fields(**fields))
    two = losses.relative_similarity(
        *arrays, margin=0.3, form="blockwise", block=7, fields=Fields(**fields)
    )
    assert np.any(one != 0)
    np.testing.assert_allclose(one, two, rtol=1e-10)
    with pytest.raises(ValueError, match="form: expected 'sorted', 'blockwise' or 'sampled'"):
        losses.relative_similarity(*arrays, form="blocked", fields=Fields(**fields))


def test_jasper_without_its_cosine_takes_teachers_of_any_width():
    arrays, fields, _, _ = pupils(10, teacher_dim=3)
    total, terms = losses.jasper(*arrays, cosine_weight=0.0, fields=Fields(**fields))
    assert sorted(terms) == ["relative", "similarity"]
    np.testing.assert_allclose(total, 200 * terms["similarity"] + 20 * terms["relative"])
