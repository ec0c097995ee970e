"""Interleaving against A/B tests: do they agree which of two rankings is better?

    python benchmarks/online.py --corpus=runs/compatible/code --model=runs/compatible/old/model \\
        --model=runs/compatible/plain/model

Rankings of a BEIR folder's queries are those of BM25 and of the models; clicks are simulated: a
user asks one of the queries and clicks on a relevant document among the first five with probability
.8, on any other with probability .02. Each pair of rankings is measured by `gemb ab`'s functions,
in two arms and as one list.
"""

import argparse
import itertools
import json
import random

import numpy as np

from gemb.analysis.neighbours import nearest
from gemb.analysis.online import Plan, analyse, analyse_interleaving
from gemb.data.sources import beir
from gemb.inference.embedder import Embedder
from gemb.search.lexical import Bm25Searcher
from gemb.serving.experiments.interleaving import team_draft

SHOWN, RELEVANT, OTHER = 5, 0.8, 0.02


def clicks(hits: list[int], relevant: dict[int, int], draw: random.Random) -> list[int]:
    """The hits that a user clicks on."""
    return [hit for hit in hits if draw.random() < (RELEVANT if hit in relevant else OTHER)]


def two_arms(rankings, qrels, users: int, draw: random.Random) -> dict:
    """An A/B test, the second ranking being the treatment."""
    exposures, outcomes = [], []
    for user in range(users):
        query, arm = draw.randrange(len(qrels)), draw.randrange(2)
        shown = rankings[arm][query][:SHOWN]
        row = {"unit": f"u{user}", "arm": "ab"[arm], "request_id": str(user), "time": user}
        clicked = clicks(shown, qrels[query], draw)
        exposures.append(row)
        outcomes.append({"request_id": str(user), "click": float(bool(clicked)), "time": user})
    plan = Plan(metric="click", horizon=users, looks=1)
    return analyse(exposures, outcomes, plan, control="a")


def one_list(rankings, qrels, users: int, draw: random.Random) -> dict:
    """Team-draft interleaving of both rankings."""
    exposures, outcomes = [], []
    for user in range(users):
        query = draw.randrange(len(qrels))
        joined = team_draft(*(ranking[query] for ranking in rankings), SHOWN, draw)
        hits, teams = [hit for hit, _ in joined], [team for _, team in joined]
        row = {"unit": f"u{user}", "request_id": str(user), "hits": hits, "teams": teams}
        exposures.append(row)
        outcomes += [
            {"request_id": str(user), "hit": hit} for hit in clicks(hits, qrels[query], draw)
        ]
    return analyse_interleaving(exposures, outcomes, control="a")


def ranked(args) -> tuple[dict[str, list[list[int]]], list[dict]]:
    """Rankings of each system, and the judgements."""
    data = beir.read_retrieval(args.corpus)
    rows = Bm25Searcher(data.corpus_texts).search(data.query_texts, 10)[0]
    made = {"bm25": np.asarray(rows).tolist()}
    for name in args.model:
        model = Embedder.load(name)
        documents = model.encode(data.corpus_texts, kind="document", progress=name)
        asked = model.encode(data.query_texts, kind="query")
        made[name] = nearest(documents, asked, 10)[0].tolist()
    return made, data.qrels


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", required=True, help="BEIR folder")
    parser.add_argument("--model", action="append", default=[], help="folder or name; repeatable")
    parser.add_argument("--users", type=int, default=20_000, help="of an A/B test")
    parser.add_argument("--interleaved", type=int, default=2_000, help="users of interleaving")
    args = parser.parse_args()
    rankings, qrels = ranked(args)
    for one, other in itertools.combinations(rankings, 2):
        pair = rankings[one], rankings[other]
        found = two_arms(pair, qrels, args.users, random.Random(0))
        mixed = one_list(pair, qrels, args.interleaved, random.Random(0))
        difference, lead = found["difference"]["difference"], mixed["wins"] - mixed["losses"]
        row = {"rankings": [one, other], "difference": round(difference, 4)}
        row |= {"ab": found["verdict"], "interleaving": mixed["verdict"], "p": mixed["p"]}
        row |= {"wins": mixed["wins"], "losses": mixed["losses"]}
        print(json.dumps(row | {"agree": difference * lead > 0}), flush=True)


if __name__ == "__main__":
    main()
