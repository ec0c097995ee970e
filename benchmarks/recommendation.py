"""Recommendation: what tables by rows cost, how fast a list is made, and figures over seeds.

    python benchmarks/recommendation.py tables                     # CPU ms per step by rows
    python benchmarks/recommendation.py retrieve --rows=1000000    # user vector, top 100, rank: ms
    python benchmarks/recommendation.py first FOLDER --penalty=10  # EASE by width of its tables
    python benchmarks/recommendation.py search FOLDER --penalty=10 # text and user together
    python benchmarks/recommendation.py seeds recommend_debian --seeds=5 [--gin_param=...]

Each prints JSON lines. `tables` and `retrieve` give CPU time of the process, which other jobs on
the machine change little, and wall time. `seeds` trains one of configs/experiments once for
each seed, in child processes, and prints mean and standard deviation of its last evaluation.
`search` asks for a user's held-out item by a broad query, the item's first two tags or its section.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

DIM, BATCH = 64, 1_024


def tables(args) -> None:
    """A step with row-wise Adagrad, and one with the whole table's gradient and Adam."""
    import jax
    import jax.numpy as jnp
    import optax

    from gemb.parallel import lookup
    from gemb.parallel.mesh import make_mesh
    from gemb.training.row_optimizers import RowAdagrad, make_table_step

    mesh, rng = make_mesh(), np.random.default_rng(0)
    target = jnp.asarray(rng.normal(size=(BATCH, DIM)).astype(np.float32))

    def loss(vectors, rest):
        return jnp.square(vectors - rest).mean()

    for rows in args.rows:
        ids = list(jnp.asarray((rng.zipf(1.2, (args.steps, BATCH)) % rows).astype(np.int32)))
        made = {"rows": rows}
        optimizer = RowAdagrad()
        step = make_table_step(loss, optimizer, mesh)
        table = lookup.spread_rows(jnp.zeros((rows, DIM)), mesh)
        state = jax.device_put(optimizer.init(table), lookup.table_sharding(mesh))
        table, state, value = step(table, state, ids[0], target)
        value.block_until_ready()
        cpu, wall = time.process_time(), time.perf_counter()
        for each in ids:
            table, state, value = step(table, state, each, target)
        value.block_until_ready()
        made["by_rows_cpu_ms"] = 1e3 * (time.process_time() - cpu) / args.steps
        made["by_rows_wall_ms"] = 1e3 * (time.perf_counter() - wall) / args.steps
        if rows <= args.dense:
            adam = optax.adam(1e-3)

            def whole(table, state, each, adam=adam):
                slope = jax.grad(lambda table: loss(table[each], target))(table)
                updates, state = adam.update(slope, state)
                return optax.apply_updates(table, updates), state

            dense = jax.jit(whole, donate_argnums=(0, 1))
            table = jnp.zeros((rows, DIM))
            table, moments = dense(table, adam.init(table), ids[0])
            table.block_until_ready()
            cpu = time.process_time()
            for each in ids[:3]:
                table, moments = dense(table, moments, each)
            table.block_until_ready()
            made["dense_cpu_ms"] = 1e3 * (time.process_time() - cpu) / 3
        print(json.dumps(made), flush=True)


def retrieve(args) -> None:
    """A user's vector from a key store, the first hundred items, and a second stage."""
    from gemb.identity import Space
    from gemb.search.registry import KINDS, Corpus
    from gemb.store.keyed import open_keyed
    from gemb.store.rows import rows_digest

    rng = np.random.default_rng(0)
    centres = rng.normal(size=(1_000, DIM)).astype(np.float32)

    def drawn(count):
        made = centres[rng.integers(len(centres), size=count)]
        made = made + 0.7 * rng.normal(size=(count, DIM)).astype(np.float32)
        return made / np.linalg.norm(made, axis=1, keepdims=True)

    items, users = drawn(args.rows), drawn(2_000)
    second = rng.normal(size=(args.rows, DIM)).astype(np.float32)  # the ranker's own vectors
    histories = rng.integers(args.rows, size=(len(users), 20))
    start = time.perf_counter()
    searcher = KINDS[args.kind].build(Corpus(items, k=100))
    built = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        keys = open_keyed(f"sqlite:{folder}/users.db")
        version = keys.begin(Space("bench", "bench", DIM, True), of="users")
        keys.put(version, list(range(len(users))), users)
        digest = rows_digest(list(range(len(users))), users, "float32")
        keys.publish(version, rows=len(users), digest=digest)
        walls, cpus, found = [], [], []
        for user in range(args.queries + 50):
            cpu, wall = time.process_time(), time.perf_counter()
            vector = keys.get([user], [version.generation]).vectors[0]
            scores, rows = searcher.search(vector[None], 100)
            near, rows = scores[0], rows[0]
            z = (near - near.mean()) / max(near.std(), 1e-12)
            ranked = second[rows] @ second[histories[user]].sum(axis=0) + 0.12 * z
            order = rows[np.argsort(-ranked)]
            if user >= 50:  # the first ones read files and compile
                walls.append(time.perf_counter() - wall)
                cpus.append(time.process_time() - cpu)
                found.append(len(set(order) & set(np.argsort(-(items @ vector))[:100].tolist()))
                             if user % 20 == 0 else None)  # fmt: skip
        keys.close()
    agreement = [count / 100 for count in found if count is not None]
    print(json.dumps({
        "kind": args.kind, "rows": args.rows, "dim": DIM, "queries": len(walls),
        "build_s": built, "agreement@100": float(np.mean(agreement)),
        **{f"wall_p{p}_ms": 1e3 * float(np.percentile(walls, p)) for p in (50, 95)},
        **{f"cpu_p{p}_ms": 1e3 * float(np.percentile(cpus, p)) for p in (50, 95)},
    }))  # fmt: skip


def first(args) -> None:
    """EASE's weights as two tables of several widths, with which towers may begin."""
    from gemb.evaluation.link_validation import link_figures
    from gemb.recommendation import links
    from gemb.recommendation.baselines.baseline import interaction_matrix
    from gemb.recommendation.linear import linear_tables
    from gemb.recommendation.vectors import Vectors

    given = links.read(args.folder, split=args.split, part=args.part, seed=args.seed)
    sizes = (len(given.data.users.ids), len(given.data.items.ids))
    matrix = interaction_matrix(given.split.train, *sizes)
    for width in args.widths:
        history, items = linear_tables(given, width, penalty=args.penalty)
        found = link_figures(Vectors(matrix @ history, items), given)
        print(json.dumps({"width": width} | found), flush=True)


def search(args) -> None:
    """Personalised search: EASE's order of what MiniLM finds, for several shares of both."""
    import gemb
    from gemb import metrics
    from gemb.recommendation import links
    from gemb.recommendation.baselines.item_weights import ease

    given = links.read(args.folder, part="test")
    users, items, test = given.data.users, given.data.items, given.split.test
    model = ease(given.split.train, len(users.ids), len(items.ids), penalty=args.penalty)
    made = gemb.Recommender(model, users, items, given.split.train)
    made = made.with_texts("all-MiniLM-L6-v2", "description")
    rows = np.random.default_rng(0).permutation(len(test.user))[: args.queries]
    numbers = {name: number for number, name in enumerate(items.ids)}
    for personal in (0.0, 0.25, 0.5, 0.75, 1.0):
        ranked = np.full((len(rows), 10), -1)
        for place, row in enumerate(rows):
            tags = items.columns["tags"][test.item[row]].split()
            words = [tag.split("::")[-1] for tag in tags[:2]]
            query = " ".join(words) or items.columns["section"][test.item[row]]
            user = users.ids[test.user[row]]
            [found] = made.recommend([user], 10, query=query, personal=personal)
            ranked[place, : len(found.items)] = [numbers[name] for name in found.items]
        targets = np.arange(len(rows)), test.item[rows]
        figures = metrics.recommendation_metrics(ranked, *targets, at=(10,))
        means = {name: float(figures[name].mean()) for name in ("hr@10", "ndcg@10")}
        print(json.dumps({"personal": personal} | means), flush=True)


def seeds(args) -> None:
    """Trains an experiment for several seeds."""
    rows = []
    for seed in range(args.seeds):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            subprocess.run(
                [
                    sys.executable, "-m", "gemb.cli", "train",
                    f"--gin_file=experiments/{args.experiment}.gin", f"--workdir={folder}/run",
                    f"--gin_param=experiment.Experiment.seed = {seed}",
                    *(f"--gin_param={each}" for each in args.gin_param),
                ],
                check=True, stdout=subprocess.DEVNULL,
            )  # fmt: skip
            last = (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()[-1]
        found = {k.split("/")[1]: v for k, v in json.loads(last).items() if k.startswith("links/")}
        rows.append(found)
        about = {"seed": seed, "seconds": time.perf_counter() - start}
        print(json.dumps(about | found), flush=True)
    spread = {
        name: [float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0]
        for name in rows[0]
        if (values := [row[name] for row in rows])
    }
    print(json.dumps({"experiment": args.experiment, "mean and deviation": spread}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parts = parser.add_subparsers(required=True)
    part = parts.add_parser("tables")
    part.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    part.add_argument("--dense", type=int, default=1_000_000, help="most rows of the dense step")
    part.add_argument("--steps", type=int, default=20)
    part.set_defaults(run=tables)
    part = parts.add_parser("retrieve")
    part.add_argument("--rows", type=int, default=1_000_000)
    part.add_argument("--queries", type=int, default=1_000)
    part.add_argument("--kind", default="scann")
    part.set_defaults(run=retrieve)
    part = parts.add_parser("first")
    part.add_argument("folder")
    part.add_argument("--split", default="column")
    part.add_argument("--part", default="validation")
    part.add_argument("--seed", type=int, default=0)
    part.add_argument("--penalty", type=float, default=10.0)
    part.add_argument("--widths", type=int, nargs="+", default=[128, 256, 512])
    part.set_defaults(run=first)
    part = parts.add_parser("search")
    part.add_argument("folder")
    part.add_argument("--penalty", type=float, default=10.0)
    part.add_argument("--queries", type=int, default=1_000)
    part.set_defaults(run=search)
    part = parts.add_parser("seeds")
    part.add_argument("experiment")
    part.add_argument("--seeds", type=int, default=5)
    part.add_argument("--gin_param", action="append", default=[])
    part.set_defaults(run=seeds)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
