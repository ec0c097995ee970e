"""The same numbers as sentence-transformers, on the same vectors."""

import jax
import jax.numpy as jnp
import losses_reference as reference
import numpy as np
import pytest

from gemb import losses

pytestmark = pytest.mark.peers
BATCH, NEGATIVES, DIM = 6, 2, 8
GTE = ("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc")


@pytest.fixture(scope="module")
def peer():
    """sentence-transformers' losses."""
    pytest.importorskip("torch")
    return pytest.importorskip("sentence_transformers.sentence_transformer.losses")


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    with jax.enable_x64(request.param == "float64"):
        yield request.param


def vectors(dtype, seed=0, negatives=NEGATIVES, dim=DIM):
    """The columns of a batch, and the same as query, document, positive."""
    rng = np.random.default_rng(seed)
    columns = [reference.unit(rng, BATCH, dim).astype(dtype) for _ in range(2 + negatives)]
    hard = np.stack(columns[2:], axis=1).reshape(-1, dim) if negatives else columns[1][:0]
    document = np.concatenate([columns[1], hard])
    return columns, (jnp.asarray(columns[0]), jnp.asarray(document), jnp.arange(BATCH))


def tensors(arrays):
    import torch

    return [torch.tensor(array) for array in arrays]


def same(mine, theirs, dtype):
    """Compares the mean of a loss with a peer's scalar."""
    tolerance = {"float32": 1e-5, "float64": 1e-10}[dtype]
    np.testing.assert_allclose(np.mean(mine), theirs.item(), rtol=tolerance, atol=tolerance)


@pytest.mark.long
@pytest.mark.parametrize(
    ("directions", "mode", "hardness"),
    [
        (GTE[:1], "joint", None),
        (GTE[:1], "joint", "hard_negatives"),
        ((GTE[0], GTE[2]), "per_direction", None),
        (GTE, "joint", None),
        (GTE, "joint", "hard_negatives"),
    ],
)
def test_multiple_negatives_ranking(peer, dtype, directions, mode, hardness):
    columns, arrays = vectors(dtype)
    strength = 5.0 if hardness else 0.0
    theirs = peer.MultipleNegativesRankingLoss(
        None,
        directions=directions,
        partition_mode=mode,
        hardness_mode=hardness,
        hardness_strength=strength,
    ).compute_loss_from_embeddings(tensors(columns), None)
    if directions == GTE:
        mine = losses.joint_info_nce(*arrays, hardness=strength)
    else:
        mine = losses.info_nce(*arrays, symmetric=len(directions) == 2, hardness=strength)
    same(mine, theirs, dtype)


class Fixed:
    """A model or guide that answers with fixed vectors, as the peers' forward passes want one."""

    tokenizer = None

    def __init__(self, columns):
        self.columns = columns

    def __call__(self, features):
        return {"sentence_embedding": self.columns[features["column"]]}


@pytest.mark.long
@pytest.mark.parametrize("strategy", ["absolute", "relative"])
def test_gist(peer, dtype, strategy, monkeypatch):
    columns, arrays = vectors(dtype, negatives=1)
    guides, (guide_query, guide_document, _) = vectors(dtype, seed=1, negatives=1, dim=3)
    loss = peer.GISTEmbedLoss.__new__(peer.GISTEmbedLoss)
    import torch

    torch.nn.Module.__init__(loss)
    loss.model, loss.guide = Fixed(tensors(columns)), Fixed(tensors(guides))
    loss.must_retokenize, loss.temperature, loss.gather_across_devices = False, 0.05, False
    loss.margin_strategy, loss.margin = strategy, 0.1
    loss.contrast_anchors = loss.contrast_positives = True
    loss.similarity_fct = torch.nn.CosineSimilarity(dim=-1)
    loss.cross_entropy_loss = torch.nn.CrossEntropyLoss()
    module = __import__(type(loss).__module__, fromlist=["embed_columns"])
    monkeypatch.setattr(module, "embed_columns", lambda model, features: model.columns)
    theirs = loss([{"column": k} for k in range(3)], None)
    mine = losses.gist(
        *arrays,
        guide_margin=0.1,
        guide_relative=strategy == "relative",
        temperature=0.05,
        fields=losses.Fields(guide_query=guide_query, guide_document=guide_document),
    )
    same(mine, theirs, dtype)


def test_cosent(peer, dtype):
    columns, arrays = vectors(dtype, negatives=0)
    grades = np.array([0, 1, 2, 2, 4, 5], dtype) / 5
    loss = peer.CoSENTLoss(None)
    theirs = loss.compute_loss_from_embeddings(tensors(columns), tensors([grades])[0])
    fields = losses.Fields(scores=jnp.asarray(grades))
    same(losses.cosent(*arrays, fields=fields), theirs, dtype)


def test_margin_mse(peer, dtype):
    columns, arrays = vectors(dtype)
    labels = np.random.default_rng(3).normal(size=(BATCH, 1 + NEGATIVES)).astype(dtype)
    loss = peer.MarginMSELoss(None)
    theirs = loss.compute_loss_from_embeddings(tensors(columns), tensors([labels])[0])
    scores = np.zeros((BATCH, BATCH * (1 + NEGATIVES)), dtype)
    for i in range(BATCH):
        start = BATCH + NEGATIVES * i
        scores[i, [i, *range(start, start + NEGATIVES)]] = labels[i]
    fields = losses.Fields(teacher_scores=jnp.asarray(scores))
    same(losses.margin_mse(*arrays, fields=fields), theirs, dtype)


def test_global_orthogonal(peer, dtype):
    columns, arrays = vectors(dtype)
    loss = peer.GlobalOrthogonalRegularizationLoss(None)
    theirs = sum(loss.compute_loss_from_embeddings(tensors(columns)).values())
    same(losses.global_orthogonal(*arrays), theirs, dtype)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_triplet(peer, dtype, distance):
    columns, arrays = vectors(dtype, negatives=1)
    metric = getattr(peer.TripletDistanceMetric, distance.upper())
    loss = peer.TripletLoss(None, distance_metric=metric, triplet_margin=0.3)
    theirs = loss.compute_loss_from_embeddings(tensors(columns), None)
    same(losses.triplet(*arrays, margin=0.3, distance=distance), theirs, dtype)


def test_matryoshka(peer, dtype):
    columns, arrays = vectors(dtype, negatives=0)

    class Model(Fixed):
        def __init__(self, columns):
            super().__init__(columns)
            self.forward = super().__call__

        def __call__(self, features):
            return self.forward(features)

        def get_embedding_dimension(self):
            return DIM

    model = Model(tensors(columns))
    inner = peer.MultipleNegativesRankingLoss(model)
    loss = peer.MatryoshkaLoss(model, inner, [8, 4, 2], [1.0, 0.5, 0.25])
    theirs = loss([{"column": 0}, {"column": 1}], None)
    mine = losses.matryoshka(*arrays, widths=(8, 4, 2), width_weights=(1.0, 0.5, 0.25))
    same(mine, theirs, dtype)
