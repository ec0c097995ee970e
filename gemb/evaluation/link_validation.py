"""Links that were held out, measured with a model over features: in training, and as vectors."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gemb import metrics
from gemb.inference.embedder import Embedder
from gemb.recommendation.links import Links
from gemb.recommendation.recommender import Recommender
from gemb.recommendation.vectors import Vectors
from gemb.structs import SIDES

_BLOCK = 1024  # users whose scores are held at a time


def tower_vectors(embedder: Embedder, links: Links) -> Vectors:
    """The vectors of all users, with their training events as histories, and of all items.

    Args:
        embedder: of a model over features.
        links: the tables and the training events.

    Returns:
        What `gemb.Recommender` and the evaluation of recommenders take as a model.
    """
    made = {}
    for side in SIDES:
        columns = getattr(embedder.model.processors, side)
        names = list(dict.fromkeys(column.entry for column in getattr(columns, side)))
        made[side] = embedder.encode(links.records(side, names), kind=side)
    return Vectors(made["query"], made["document"])


def tower_recommender(embedder: Embedder, links: Links, *, segment: str = "") -> Recommender:
    """A recommender of a model over features: vectors of known users, features of new ones.

    Args:
        embedder: of a model over features.
        links: the tables, and the training events that count as seen.
        segment: see `gemb.recommendation.recommender.Recommender`.
    """
    vectors = tower_vectors(embedder, links)
    users, items, train = links.data.users, links.data.items, links.split.train

    def encode(features: Mapping[str, Any]) -> np.ndarray:
        return embedder.encode_query([dict(features)])[0]

    return Recommender(vectors, users, items, train, segment=segment, encode=encode)


def links(links: Links, *, at: Sequence[int] = (10, 20, 100)) -> Callable[..., dict[str, float]]:
    """An evaluator of the held-out events of `links`, for `Experiment.evaluators`.

    The whole catalogue is ranked, without what the user has; of a cold split, only its cold items.

    Args:
        links: the events that training leaves out.
        at: cut-offs.

    Returns:
        (model) -> {"hr@10", "recall@10", "ndcg@10", "mrr@10", and for the further cut-offs}.

    Example:
        In gin, to keep the checkpoint that is best on the validation events:

            experiment.Experiment.evaluators = {'links': @link_validation.links()}
            experiment.Experiment.keep_best = 'links/ndcg@10'
    """

    def evaluate(model) -> dict[str, float]:
        return link_figures(tower_vectors(Embedder(model), links), links, at=at)

    return evaluate


def link_figures(
    vectors: Vectors, links: Links, *, at: Sequence[int] = (10, 20, 100)
) -> dict[str, float]:
    """The mean figures of vectors over the held-out events of `links`; see `links`."""
    test, train = links.split.test, links.split.train
    wanted = np.unique(test.user)
    order = np.argsort(train.user, kind="stable")
    users, items = train.user[order], train.item[order]
    others = np.ones(len(links.data.items.ids), bool)
    if links.among is not None:
        others[links.among] = False
    ranked = []
    for start in range(0, len(wanted), _BLOCK):
        block = wanted[start : start + _BLOCK]
        scores = vectors.users[block] @ vectors.items.T
        if links.among is not None:
            scores[:, others] = -np.inf
        here = np.isin(users, block)
        seen = np.searchsorted(block, users[here]), items[here]
        ranked.append(metrics.top_items(scores, max(at), seen))
    place = np.searchsorted(wanted, test.user)
    found = metrics.recommendation_metrics(np.concatenate(ranked), place, test.item, at=at)
    return {name: float(value.mean()) for name, value in found.items()}
