"""Losses cell by cell in float64 numpy, straight from the formulas: the yardstick of the tests."""

import jax.numpy as jnp
import numpy as np


def unit(rng, *shape):
    """Random unit-length rows, float64."""
    rows = rng.normal(size=shape)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def make(seed=0, batch=6, negatives=2, dim=5, dtype=np.float64):
    """A batch with repeated texts, masks, weights, opt-outs and positives out of order."""
    rng = np.random.default_rng(seed)
    candidates = batch * (1 + negatives)
    arrays = {
        "query": unit(rng, batch, dim),
        "document": unit(rng, candidates, dim),
        "positive": rng.permutation(batch).astype(np.int32),
        "query_id": rng.integers(0, batch - 1, batch).astype(np.int32),
        "document_id": rng.integers(0, candidates - batch // 2, candidates).astype(np.int32),
        "query_mask": rng.random(batch) > 0.2,
        "document_mask": rng.random(candidates) > 0.1,
        "weights": rng.random(batch),
        "in_batch": rng.random(batch) > 0.3,
    }
    arrays["query_mask"][:2] = (True, False)
    arrays["document_mask"][arrays["positive"][0]] = True
    arrays = {k: v.astype(dtype) if v.dtype == np.float64 else v for k, v in arrays.items()}
    return {name: jnp.asarray(array) for name, array in arrays.items()}


def owners(positive, candidates):
    """The query of each hard negative by walking over the documents; -1 for positives."""
    batch = len(positive)
    negatives = candidates // batch - 1
    owner, seen = [], 0
    for j in range(candidates):
        if j in positive:
            owner.append(-1)
        else:
            owner.append(seen // negatives)
            seen += 1
    return owner


def info_nce(
    query,
    document,
    positive,
    *,
    softmaxes=(("query_to_document",),),
    temperature=0.05,
    margin=0.0,
    label_smoothing=0.0,
    hardness=0.0,
    drop_margin=None,
    share_negatives=True,
    guide=None,
    guide_margin=0.0,
    guide_relative=False,
    query_id=None,
    document_id=None,
    query_mask=None,
    document_mask=None,
    weights=None,
    in_batch=None,
):
    """Any softmax loss, row by row and candidate by candidate."""
    q, d, p = (
        np.asarray(x, np.float64 if x.ndim > 1 else int) for x in (query, document, positive)
    )
    batch, candidates = len(q), len(d)
    qm = np.ones(batch, bool) if query_mask is None else np.asarray(query_mask)
    dm = np.ones(candidates, bool) if document_mask is None else np.asarray(document_mask)
    qm = qm & dm[p]
    ids = None if document_id is None else [int(x) for x in document_id]
    names = list(range(batch)) if query_id is None else [int(x) for x in query_id]
    known = set() if ids is None else {(names[i], ids[p[i]]) for i in range(batch) if qm[i]}
    owner = owners(list(p), candidates)
    gq, gd = (None, None) if guide is None else (np.asarray(g, np.float64) for g in guide)

    def logit(direction, i, j):
        start, end = direction.split("_to_")
        a = q[i] if start == "query" else d[p[i]]
        b = q[j] if end == "query" else d[j]
        score, own = a @ b, j == (i if end == "query" else p[i])
        holds = direction in ("query_to_document", "document_to_query")
        if own:
            return (score - margin) / temperature if holds else None
        if end == "query":
            out = not qm[j] or (in_batch is not None and not in_batch[i])
            out |= ids is not None and ((names[j], ids[p[i]]) in known or ids[p[i]] == ids[p[j]])
        else:
            mine = owner[j] == i
            out = not dm[j] or (in_batch is not None and not in_batch[i] and not mine)
            out |= not share_negatives and owner[j] >= 0 and not mine
            out |= ids is not None and ((names[i], ids[j]) in known or ids[j] == ids[p[i]])
            out |= start != "query" and mine
            out |= end == "positive" and owner[j] >= 0
        out |= drop_margin is not None and score > q[i] @ d[p[i]] + drop_margin
        if guide is not None:
            sure = gq[i] @ gd[p[i]]
            ga, gb = (gq[i] if start == "query" else gd[p[i]]), (gq[j] if end == "query" else gd[j])
            out |= ga @ gb > sure - guide_margin * (abs(sure) if guide_relative else 1)
        if out:
            return None
        hard = direction == "query_to_document" and owner[j] == i
        return score / temperature + (hardness * score if hard else 0)

    losses = []
    for i in range(batch):
        value = 0.0
        for directions in softmaxes if qm[i] else ():
            rows = [
                logit(direction, i, j)
                for direction in directions
                for j in range(batch if direction.endswith("query") else candidates)
            ]
            rows = np.array([z for z in rows if z is not None])
            target = (q[i] @ d[p[i]] - margin) / temperature
            aim = (1 - label_smoothing) * target + label_smoothing * rows.mean()
            value += np.log(np.sum(np.exp(rows - rows.max()))) + rows.max() - aim
        losses.append(value / len(softmaxes) * (1 if weights is None else float(weights[i])))
    return np.array(losses)
