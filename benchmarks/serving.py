"""Measures `gemb serve`: requests per second, both lanes, overload; against sentence-transformers.

    python benchmarks/serving.py all --model=all-MiniLM-L6-v2 --output=serving.json
    python benchmarks/serving.py requests --seconds=5 --rounds=3
    python benchmarks/serving.py lanes
    python benchmarks/serving.py overload
    python benchmarks/serving.py requests --infinity=/venvs/infinity/bin/infinity_emb --clients=8

The peers: sentence-transformers behind Starlette and uvicorn, with one encode per request in a
thread, as most examples for FastAPI do it; ONNX Runtime behind the server and the batcher of gemb
(`ort`: the exported model in place of XLA's program); and infinity, if --infinity names its program
in an environment of its own, in float32 (pip install "infinity-emb[server,torch]==0.0.77"
"transformers<4.49" "optimum<2" "click<8.2"). All servers run
at the same time on this machine and are asked in turn; only ratios of one round are compared. Needs
the extras serve, peers and export.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np

_BULK = 32  # texts of a bulk request: many answers in a short run, so that rates are fine
WORDS = [
    "the",
    "of",
    "and",
    "river",
    "stone",
    "music",
    "letter",
    "garden",
    "window",
    "morning",
    "paper",
    "silver",
    "winter",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["all", "requests", "lanes", "overload", "peer", "ort"])
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=13)
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 8, 32])
    parser.add_argument("--peers", nargs="*", default=["peer", "ort"])
    parser.add_argument("--infinity", default="", help="program of infinity")
    parser.add_argument("--output", default="")
    options = parser.parse_args()
    if options.what in ("peer", "ort"):
        {"peer": peer, "ort": ort}[options.what](options.model)
        return
    found = {}

    def keep(name: str, value) -> None:
        found[name] = value
        if options.output:  # what is measured stays, whatever comes after it
            with open(options.output, "w", encoding="utf-8") as file:
                json.dump(found, file, indent=1)

    with contextlib.ExitStack() as stack:
        command = [sys.executable, "-m", "gemb.cli", "serve", f"--model={options.model}"]
        gemb = stack.enter_context(server([*command, "--port=0", "--log=off", "--deadline=30"]))
        if options.what in ("all", "requests"):
            ports = {"gemb": gemb}
            for name in options.peers:
                command = [sys.executable, __file__, name, f"--model={options.model}"]
                ports[name] = stack.enter_context(server(command))
            if options.infinity:
                ports["infinity"] = stack.enter_context(infinity(options))
            keep("requests", requests(ports, options))
            keep("overhead", overhead(gemb, options))
        if options.what in ("all", "lanes"):
            keep("lanes", lanes(gemb, options))
        if options.what in ("all", "overload"):
            keep("overload", overload(gemb, options))
        keep("late_compiles", metric(gemb, "gemb_compiles_total"))
    print(json.dumps(found, indent=1))


def peer(model: str) -> None:
    """sentence-transformers behind the same HTTP stack."""
    import uvicorn
    from sentence_transformers import SentenceTransformer
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    from gemb.pretrained.fetch import model_folder

    encoder = SentenceTransformer(str(model_folder(model)), device="cpu")

    async def answer(request):
        texts = (await request.json())["input"]
        texts = [texts] if isinstance(texts, str) else texts
        vectors = await run_in_threadpool(encoder.encode, texts, show_progress_bar=False)
        return JSONResponse({"data": [{"embedding": row.tolist()} for row in vectors]})

    app = Starlette(routes=[Route("/v1/embeddings", answer, methods=["POST"])])
    encoder.encode(["warm"])
    config = uvicorn.Config(app, port=0, log_level="critical")
    socket = config.bind_socket()
    socket.listen(128)
    print(f"serving on http://127.0.0.1:{socket.getsockname()[1]}", flush=True)
    uvicorn.Server(config).run(sockets=[socket])


def ort(model: str) -> None:
    """ONNX Runtime behind gemb's own server and batcher."""
    import tempfile
    from pathlib import Path

    from gemb.export.onnx_file import OnnxEncoder, write
    from gemb.inference.embedder import Embedder
    from gemb.serving import server
    from gemb.serving.batching import towers

    with tempfile.TemporaryDirectory() as folder:
        tower = Embedder.load(model).model.document
        encoder = OnnxEncoder(write(tower, Path(folder)))

        def dispatch(self, examples, length, rows):
            tokens = self.processor.collate(examples, length, rows)
            return encoder(tokens.ids, tokens.mask)[0]

        towers.Tower.dispatch = dispatch
        settings = server.Settings(deadline=30)
        server.serve(
            server.Places([model]), port=0, settings=settings, log=False,
            announce=lambda address: print(f"serving on http://{address}", flush=True),
        )  # fmt: skip


@contextlib.contextmanager
def infinity(options):
    """infinity's server in float32; its port."""
    from gemb.pretrained.fetch import model_folder

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [options.infinity, "v2", "--model-id", str(model_folder(options.model))]
    command += [
        "--dtype",
        "float32",
        "--engine",
        "torch",
        "--device",
        "cpu",
        "--no-bettertransformer",
    ]
    command += ["--port", str(port), "--log-level", "critical", "--url-prefix", "/v1"]
    command += ["--served-model-name", "default"]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    process = subprocess.Popen(command, env=environment | {"HF_HUB_OFFLINE": "1"})
    try:
        end = time.monotonic() + 240
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                break
            if time.monotonic() > end or process.poll() is not None:
                raise SystemExit("infinity did not start")
            time.sleep(0.5)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=60)


@contextlib.contextmanager
def server(command: list[str]):
    """Starts a server; gives its port."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        yield int(re.search(r":(\d+)$", line.strip())[1])
    finally:
        process.terminate()
        process.wait(timeout=60)


def text(draw: random.Random, tokens: int) -> str:
    """A text of so many tokens with [CLS] and [SEP]; hardly ever the same twice."""
    return " ".join(draw.choice(WORDS) for _ in range(tokens - 2))


def body(texts, headers: str = "", model: str = "") -> bytes:
    asked = {"input": texts, "encoding_format": "float"}
    content = json.dumps(asked | ({"model": model} if model else {})).encode()
    head = f"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {len(content)}\r\n"
    return head.encode() + b"\r\n" + content


class Connection:
    """A keep-alive connection that sends prepared bytes."""

    def __init__(self, port: int):
        self._port, self._reader, self._writer = port, None, None

    async def ask(self, data: bytes) -> int:
        """The status of the answer."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(data)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"content-length: (\d+)", head, re.IGNORECASE)[1])
        await self._reader.readexactly(length)
        return int(head.split(b" ", 2)[1])

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


async def closed_loop(port: int, clients: int, seconds: float, make) -> list[float]:
    """Seconds of each answer; every client asks again when it has its answer."""
    taken, end = [], time.monotonic() + seconds

    async def client():
        connection = Connection(port)
        while time.monotonic() < end:
            data = make()
            start = time.monotonic()
            status = await connection.ask(data)
            if status == 200:
                taken.append(time.monotonic() - start)
        connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return taken


async def fixed_rate(port: int, rate: float, seconds: float, make) -> list[tuple[int, float]]:
    """(status, seconds) of each answer; requests come at a fixed rate, whatever is answered."""
    found, free, tasks = [], [], []

    async def one(data):
        start = time.monotonic()
        connection = free.pop() if free else Connection(port)
        found.append((await connection.ask(data), time.monotonic() - start))
        free.append(connection)

    start, sent = time.monotonic(), 0
    while (now := time.monotonic() - start) < seconds:
        while sent < now * rate:
            tasks.append(asyncio.ensure_future(one(make())))
            sent += 1
        await asyncio.sleep(0.002)
    await asyncio.gather(*tasks)
    return found


def milliseconds(taken) -> dict[str, float]:
    taken = taken or [float("nan")]
    return {f"p{p}": round(1000 * float(np.percentile(taken, p)), 2) for p in (50, 95, 99)}


def requests(ports: dict[str, int], options) -> list[dict]:
    """Requests per second of several numbers of clients, in turn."""
    draw, rows = random.Random(0), []

    def asked(name: str):
        model = "default" if name == "infinity" else ""
        return lambda: body(text(draw, options.tokens), model=model)

    for name, port in ports.items():
        asyncio.run(closed_loop(port, 4, 1.0, asked(name)))
    for clients in options.clients:
        for number in range(options.rounds):
            row = {"clients": clients, "round": number}
            for name, port in ports.items():
                taken = asyncio.run(closed_loop(port, clients, options.seconds, asked(name)))
                row[name] = {"per_second": round(len(taken) / options.seconds, 1)}
                row[name] |= milliseconds(taken)
            mine = row["gemb"]["per_second"]
            row["ratios"] = {
                name: round(mine / max(row[name]["per_second"], 0.01), 2)
                for name in ports
                if name != "gemb"
            }
            rows.append(row)
            print(row, file=sys.stderr)
    return rows


def overhead(port: int, options) -> dict:
    """p50 of one client, and of the same texts encoded without a server, in turn."""
    from gemb.inference.embedder import Embedder

    embedder, draw = Embedder.load(options.model), random.Random(1)
    embedder.encode(["warm " + text(draw, options.tokens)])
    bare, served = [], []
    for _ in range(5):
        for _ in range(100):
            words = text(draw, options.tokens)
            start = time.monotonic()
            embedder.encode([words])
            bare.append(time.monotonic() - start)

        def make():
            return body(text(draw, options.tokens))

        served += asyncio.run(closed_loop(port, 1, 1.5, make))
    return {"bare_ms": milliseconds(bare), "served_ms": milliseconds(served)}


def lanes(port: int, options) -> dict:
    """Interactive latency and bulk rate, alone and together."""
    draw = random.Random(2)

    def query():
        return body(text(draw, options.tokens))

    def bulk():
        return body([text(draw, options.tokens) for _ in range(_BULK)])

    async def paced(seconds: float) -> list[float]:
        taken, connection, end = [], Connection(port), time.monotonic() + seconds
        while time.monotonic() < end:
            start = time.monotonic()
            await connection.ask(query())
            taken.append(time.monotonic() - start)
            await asyncio.sleep(0.05)
        connection.close()
        return taken

    async def together(seconds: float):
        return await asyncio.gather(paced(seconds), closed_loop(port, 2, seconds, bulk))

    rows = []
    for _ in range(options.rounds):
        alone = asyncio.run(paced(options.seconds))
        full = asyncio.run(closed_loop(port, 2, options.seconds, bulk))
        mixed, bulks = asyncio.run(together(options.seconds))
        row = {"interactive_alone_ms": milliseconds(alone), "interactive_ms": milliseconds(mixed)}
        row["p95_ratio"] = round(
            row["interactive_ms"]["p95"] / row["interactive_alone_ms"]["p95"], 2
        )
        row["bulk_alone_texts_per_second"] = round(_BULK * len(full) / options.seconds)
        row["bulk_texts_per_second"] = round(_BULK * len(bulks) / options.seconds)
        row["bulk_share"] = round(len(bulks) / max(len(full), 1), 2)
        rows.append(row)
        print(row, file=sys.stderr)
    return rows


def overload(port: int, options) -> list[dict]:
    """Three times the capacity at a fixed arrival rate, with a deadline of a second."""
    draw, rows = random.Random(3), []

    def make(headers: str = "X-Timeout-Ms: 1000\r\n"):
        return body([text(draw, 128) for _ in range(4)], headers)

    for _ in range(options.rounds):
        # without a deadline: all are admitted, and the device always has work
        taken = asyncio.run(closed_loop(port, 8, options.seconds, lambda: make("")))
        capacity = max(len(taken), 1) / options.seconds
        before = metric(port, "gemb_memory_bytes")
        found = asyncio.run(fixed_rate(port, 3 * capacity, 2 * options.seconds, make))
        good = [seconds for status, seconds in found if status == 200]
        row = {"capacity_per_second": round(capacity, 1)}
        row["goodput_per_second"] = round(len(good) / (2 * options.seconds), 1)
        row["goodput_share"] = round(row["goodput_per_second"] / capacity, 2)
        row["accepted_ms"] = milliseconds(good)
        row["statuses"] = {str(s): sum(f[0] == s for f in found) for s in {f[0] for f in found}}
        row["memory_mb"] = [round(before / 1e6), round(metric(port, "gemb_memory_bytes") / 1e6)]
        rows.append(row)
        print(row, file=sys.stderr)
    return rows


def metric(port: int, name: str) -> float:
    """One sample of the server's metrics."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return float(re.search(rf"^{name} (\S+)$", answer.read().decode(), re.MULTILINE)[1])


if __name__ == "__main__":
    main()
