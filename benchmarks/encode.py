"""Encoding all-MiniLM-L6-v2: gemb beside sentence-transformers and ONNX Runtime.

    gemb fetch && python benchmarks/encode.py           # extras: peers; onnxruntime if installed

One JSON line a row. Texts are docstrings of installed packages: `queries` 1,000 first paragraphs,
`mixed` 300 docstrings cut at 20 to 1,000 characters. `ratio` is sentences a second over sentence-
transformers' in float32. `peak_share` is gemb's arithmetic (2 x parameters of the layers x padded
tokens) over the rate of a float32 product of [1024, 384] and [384, 1536] measured in the same
process and turn. `bfloat16` behind a name: gemb's linear maps multiply operands rounded to it
(Execution.matmul_dtype), sentence-transformers computes in it altogether.
"""

import argparse
import functools
import importlib.util
import inspect
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from workers import Worker, alternate, serve, show, speed_up

LENGTH = 256
PER_TOKEN = 2 * 6 * (4 * 384 * 384 + 2 * 384 * 1536)  # FLOPs of MiniLM's six layers


def text_sets() -> dict[str, list[str]]:
    """The texts, the same in every process."""
    import argparse
    import asyncio
    import logging
    import unittest

    import jax

    modules = (np, np.linalg, np.random, np.fft, argparse, asyncio, logging, unittest, jax.numpy)
    members = [getattr(m, name) for m in (*modules, jax.lax, jax) for name in dir(m)]
    docs = {inspect.getdoc(member) or "" for member in members}
    docs = sorted(doc for doc in docs if len(doc) > 20)
    rng = np.random.default_rng(0)
    rng.shuffle(docs)
    queries = [doc.split("\n\n")[0].replace("\n", " ")[:200] for doc in docs][:1000]
    return {"queries": queries, "mixed": [doc[: rng.integers(20, 1000)] for doc in docs[:300]]}


def gemb_worker(folder: str, matmul_dtype: str = ""):
    import jax
    import jax.numpy as jnp

    from gemb import Embedder
    from gemb.inference import encode
    from gemb.models.execution import Execution

    embedder = Embedder.load(folder, LENGTH, Execution(matmul_dtype=matmul_dtype))
    processor = embedder.model.processors.document
    left, right = jnp.ones((1024, 384)), jnp.ones((384, 1536))
    product = jax.jit(lambda a, b: [a @ (b + i) for i in range(40)])

    def peak() -> float:
        product(left, right)[-1].block_until_ready()
        start = time.perf_counter()
        jax.block_until_ready(product(left, right))
        return 40 * 2 * 1024 * 384 * 1536 / (time.perf_counter() - start)

    def answer(texts):
        start = time.perf_counter()
        vectors = embedder.encode(texts)
        seconds = time.perf_counter() - start
        lengths = np.array([example.size for example in processor.prepare(texts, "document")])
        padded = 0
        for rows in encode._batches(lengths, processor.bucket, encode.CPU_BUDGET):
            width = processor.bucket(int(lengths[rows].max()))
            padded += width * encode._row_bucket(len(rows), max(1, encode.CPU_BUDGET // width), 1)
        return {
            "vectors": vectors[:5].tolist(),
            "seconds": seconds,
            "padding": 1 - lengths.sum() / padded,
            "peak_share": PER_TOKEN * padded / seconds / peak(),
        }

    return answer


def st_worker(folder: str, dtype: str = "float32"):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(folder, device="cpu", model_kwargs={"dtype": dtype})

    def answer(texts):
        return {"vectors": model.encode(texts, show_progress_bar=False)[:5].tolist()}

    return answer


def ort_worker(folder: str):
    """The same sorting, and batches of 16, the fastest of 8, 16, 32 and 64."""
    import onnxruntime
    import torch
    from transformers import AutoModel

    from gemb.processors.padding import pad
    from gemb.tokenizers.tokenizer import Tokenizer

    class Hidden(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()

        def forward(self, ids, mask):
            return self.model(ids, mask).last_hidden_state

    file = Path(tempfile.mkdtemp()) / "model.onnx"
    ids = torch.randint(1000, 2000, (2, 16))
    free = {0: "batch", 1: "length"}
    torch.onnx.export(
        Hidden(), (ids, torch.ones_like(ids)), file, opset_version=17, dynamo=False,
        input_names=["ids", "mask"], output_names=["x"],
        dynamic_axes={"ids": free, "mask": free, "x": free},
    )  # fmt: skip
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer((Path(folder) / "tokenizer.json").read_text(), LENGTH)

    def answer(texts):
        ids = tokenizer.encode(texts)
        order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
        vectors = np.empty((len(ids), 384), np.float32)
        for start in range(0, len(order), 16):
            rows = order[start : start + 16]
            tokens = pad([ids[row] for row in rows], len(ids[rows[0]]))
            feed = {"ids": tokens.ids.astype(np.int64), "mask": tokens.mask.astype(np.int64)}
            hidden, mask = session.run(None, feed)[0], tokens.mask[..., None]
            pooled = (hidden * mask).sum(1) / mask.sum(1)
            vectors[rows] = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        return {"vectors": vectors[:5].tolist()}

    return answer


WORKERS = {
    "sentence-transformers": st_worker,
    "sentence-transformers bfloat16": functools.partial(st_worker, dtype="bfloat16"),
    "gemb": gemb_worker,
    "gemb bfloat16": functools.partial(gemb_worker, matmul_dtype="bfloat16"),
    "onnxruntime": ort_worker,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="a folder; default all-MiniLM-L6-v2 from the cache")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--worker", choices=WORKERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    from gemb.pretrained.fetch import model_folder

    folder = str(model_folder(options.model or "all-MiniLM-L6-v2"))
    if options.worker:
        serve(WORKERS[options.worker](folder), name=options.worker)
        return
    names = [n for n in WORKERS if n != "onnxruntime" or importlib.util.find_spec("onnxruntime")]
    workers = [Worker(__file__, name, ["--model", folder]) for name in names]
    for name, texts in text_sets().items():
        answers = alternate(workers, options.turns, texts=texts)
        base = answers["sentence-transformers"]
        for worker, replies in answers.items():
            expected, found = (np.array(a[0]["vectors"]) for a in (base, replies))
            row = {
                "set": name,
                "implementation": worker,
                "sentences_per_second": round(
                    len(texts) / statistics.median(r["seconds"] for r in replies), 1
                ),
                "ratio": round(speed_up(base, replies), 2),
                "largest_difference": float(f"{np.abs(expected - found).max():.1e}"),
            }
            if worker.startswith("gemb"):
                row["padding"] = round(replies[0]["padding"], 3)
                row["peak_share"] = round(statistics.median(r["peak_share"] for r in replies), 2)
            show(**row)
    for worker in (w for w in workers if w.name.startswith("gemb")):
        questions = [f"how do I open file number {number}" for number in range(51)]
        latency = [worker.ask(texts=[question])["seconds"] for question in questions]
        milliseconds = round(1e3 * statistics.median(latency[1:]), 2)
        show(set="one short text", implementation=worker.name, milliseconds=milliseconds)
    for worker in workers:
        worker.close()


if __name__ == "__main__":
    main()
