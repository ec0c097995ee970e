"""A training step of all-MiniLM-L6-v2: gemb beside sentence-transformers, one JSON line a row.

    gemb fetch && python benchmarks/train_step.py            # extras: peers
    python benchmarks/train_step.py --dropout 0.1
    python benchmarks/train_step.py --widths 384,192,96,48,24
    python benchmarks/train_step.py --caching                # memory by batch, compiled only
    python benchmarks/train_step.py --rows 192 --lengths 64,64 --base gemb --forms "gemb cached"

64 pairs of 16 + 128 tokens unless --rows and --lengths say otherwise, all real; in-batch InfoNCE at
temperature 0.05, AdamW, float32, the same random ids for all. `ratio` is pairs a second over the
base's; `peak_mib` is the process's largest resident size, `temp_mib` what XLA sets
aside for the step. `bfloat16` rounds the operands of linear maps to it (Execution.matmul_dtype);
`recomputed` loops over the layers and recomputes them in the backward pass; `cached` cuts the batch
into gradient-cached microbatches of --part rows.

--caching compiles, and does not run, a step of random weights of that shape at batches of 256 to
4,096 pairs of 64 + 64 tokens, in microbatches of 16 rows and in one pass, and tells what XLA sets
aside for it.
"""

import argparse
import statistics

import numpy as np
from workers import Worker, alternate, serve, show, speed_up

BATCHES, LENGTH, PART = (256, 512, 1024, 2048, 4096), 64, 16
RECOMPUTED = {"layers": "scan", "remat": "full"}
FORMS = {
    "gemb": {},
    "gemb bfloat16": {"matmul_dtype": "bfloat16"},
    "gemb recomputed": RECOMPUTED,
    "gemb bfloat16 recomputed": RECOMPUTED | {"matmul_dtype": "bfloat16"},
    "gemb cached": {},
    "gemb bfloat16 recomputed, cached": RECOMPUTED | {"matmul_dtype": "bfloat16"},
}


def ids_of(rows: int, length: int, seed: int) -> np.ndarray:
    """Random words between [CLS] and [SEP]."""
    ids = np.random.default_rng(seed).integers(2000, 20_000, (rows, length)).astype(np.int32)
    ids[:, 0], ids[:, -1] = 101, 102
    return ids


def gemb_worker(folder: str, name: str, options, widths: tuple[int, ...]):
    import functools

    import jax
    import optax

    from gemb import losses
    from gemb.inference.compilation import use_compilation_cache
    from gemb.models.execution import Execution
    from gemb.models.functional import functional
    from gemb.pretrained.adapt import load
    from gemb.structs import Batch, Tokens
    from gemb.training.objectives import Encoding
    from gemb.training.state import TrainState
    from gemb.training.step import make_step

    use_compilation_cache()
    model = load(folder)
    loss = functools.partial(losses.info_nce, temperature=0.05)
    if widths:
        loss = functools.partial(losses.matryoshka, widths=widths, loss=loss)
    parts = options.rows // options.part if name.endswith("cached") else 1
    optimizer = optax.adamw(2e-5, weight_decay=0.01)
    execution = Execution(dropout=options.dropout, **FORMS[name])
    step = make_step(Encoding(functional(model.spec), execution, parts, parts), loss, optimizer)
    params = jax.device_put(model.params)
    state = TrainState(jax.numpy.zeros((), jax.numpy.int32), params, optimizer.init(params))
    sides = [ids_of(options.rows, length, length) for length in lengths_of(options)]
    number, real = np.arange(options.rows, dtype=np.int32), np.ones(options.rows, bool)
    query, document = (Tokens(ids, ids > 0) for ids in sides)
    batch = Batch(query, document, number, number, number, real, real)
    compiled = step.lower(state, batch).compile()
    box = [state]

    def answer():
        box[0], metrics = compiled(box[0], batch)
        return {"loss": float(metrics["loss"])}

    return answer, {"temp_mib": round(compiled.memory_analysis().temp_size_in_bytes / 2**20, 1)}


def st_worker(folder: str, name: str, options, widths: tuple[int, ...]):
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import losses

    model = SentenceTransformer(folder, device="cpu").train()
    dropout = options.dropout
    model[0].model.config.attention_probs_dropout_prob = dropout
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = dropout
        if hasattr(module, "dropout_prob"):
            module.dropout_prob = dropout
    loss = losses.MultipleNegativesRankingLoss(model)
    if widths:
        loss = losses.MatryoshkaLoss(model, loss, list(widths))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5)
    sides = []
    for length in lengths_of(options):
        ids = torch.tensor(ids_of(options.rows, length, length), dtype=torch.long)
        more = {"attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
        sides.append({"input_ids": ids} | more)

    def answer():
        optimizer.zero_grad()
        value = loss([dict(side) for side in sides], None)
        value.backward()
        optimizer.step()
        return {"loss": float(value.detach())}

    return answer, {}


def lengths_of(options) -> tuple[int, int]:
    """Tokens of a query and of a document."""
    query, document = options.lengths.split(",")
    return int(query), int(document)


def caching() -> None:
    """What XLA sets aside for a step by batch, of one pass and of gradient-cached microbatches."""
    from gemb.models.execution import Execution

    forms = {
        "cached": (Execution(), PART),
        "cached, recomputed": (Execution(**RECOMPUTED), PART),
        "one pass": (Execution(), None),
    }
    for name, (execution, part) in forms.items():
        found = {}
        for rows in BATCHES:
            found[rows] = temporaries(rows, execution, rows // part if part else 1)
            show(form=name, rows=rows, temp_mib=found[rows])
        show(form=name, largest_over_smallest=round(found[BATCHES[-1]] / found[BATCHES[0]], 3))


def temporaries(rows: int, execution, parts: int) -> float:
    """MiB that XLA sets aside for a step of a MiniLM's shape; nothing runs."""
    import jax
    import optax

    from gemb import losses
    from gemb.models.encoders.text import TextSpec
    from gemb.models.functional import functional
    from gemb.models.spec import ModelSpec, StackSpec, TowerSpec
    from gemb.structs import Batch, Tokens
    from gemb.training.objectives import Encoding
    from gemb.training.state import TrainState
    from gemb.training.step import make_step

    spec = ModelSpec.of(TowerSpec(TextSpec(30_522, 512, StackSpec(6, 384, 12, 1536))))
    optimizer, model = optax.adamw(2e-5), functional(spec)

    def array(*shape, dtype="int32"):
        return jax.ShapeDtypeStruct(shape, dtype)

    tokens = Tokens(array(rows, LENGTH), array(rows, LENGTH, dtype="bool"))
    number, real = array(rows), array(rows, dtype="bool")
    batch = Batch(tokens, tokens, number, number, number, real, real)
    state = TrainState(array(), model.shapes, jax.eval_shape(optimizer.init, model.shapes))
    step = make_step(Encoding(model, execution, parts, parts), losses.info_nce, optimizer)
    # how good the machine code is does not matter: it never runs
    quickly = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    compiled = step.lower(state, batch).compile(compiler_options=quickly)
    return round(compiled.memory_analysis().temp_size_in_bytes / 2**20, 1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="a folder; default all-MiniLM-L6-v2 from the cache")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--widths", default="", help="nested widths, e.g. 384,192,96,48,24")
    parser.add_argument("--forms", nargs="*", default=list(FORMS))
    parser.add_argument("--base", default="sentence-transformers", help="what others are over")
    parser.add_argument("--rows", type=int, default=64, help="pairs of a batch")
    parser.add_argument("--lengths", default="16,128", help="tokens of a query and of a document")
    parser.add_argument("--part", type=int, default=16, help="rows of a gradient-cached microbatch")
    parser.add_argument("--caching", action="store_true", help="only the table of memory by batch")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.caching:
        caching()
        return
    from gemb.pretrained.fetch import model_folder

    folder = str(model_folder(options.model or "all-MiniLM-L6-v2"))
    widths = tuple(int(width) for width in options.widths.split(",") if width)
    if options.worker:
        make = gemb_worker if options.worker in FORMS else st_worker
        answer, about = make(folder, options.worker, options, widths)
        serve(answer, **about)
        return
    base = options.base
    passed = [f"--model={folder}", f"--dropout={options.dropout}", f"--widths={options.widths}"]
    passed += [f"--{name}={getattr(options, name)}" for name in ("rows", "lengths", "part")]
    workers = [Worker(__file__, name, passed) for name in (base, *options.forms)]
    answers = alternate(workers, options.turns)
    for worker in workers:
        replies = answers[worker.name]
        show(
            implementation=worker.name,
            dropout=options.dropout,
            widths=list(widths),
            pairs_per_second=round(
                options.rows / statistics.median(reply["seconds"] for reply in replies), 1
            ),
            ratio=round(speed_up(answers[base], replies), 2),
            peak_mib=replies[-1]["peak_mib"],
            first_loss=round(replies[0]["loss"], 4),
            **worker.about,
        )
        worker.close()


if __name__ == "__main__":
    main()
