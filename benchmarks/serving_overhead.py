"""What one request of one client costs beside the encoding, part by part, without a model.

    python benchmarks/serving_overhead.py

Each part is repeated; the figure is the tenth percentile in milliseconds, because on a shared
machine the middle measures the neighbours. "whole" is a request through uvicorn, the routes, the
batcher and its thread to a tower that computes nothing, and back, less what the client itself and
its socket cost ("echo": the same client and bytes, an asyncio server without HTTP).
"""

import argparse
import asyncio
import json
import re
import socket
import subprocess
import sys
import time

import numpy as np

TEXT = "the river stone music letter garden window morning paper silver winter"
BODY = json.dumps({"input": TEXT, "encoding_format": "float"}).encode()
HEAD = f"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="all-MiniLM-L6-v2", help="for its tokenizer and dim")
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--serve", choices=["", "whole", "echo"], default="", help="one server")
    options = parser.parse_args()
    if options.serve:
        {"whole": serve_whole, "echo": serve_echo}[options.serve](options.model)
        return
    measured(options)


def measured(options) -> None:
    """Prints the milliseconds of each part."""

    def show(name: str, value: float) -> float:
        print(f"{name:<44} {value:7.3f} ms", flush=True)
        return value

    for name, run in parts(options.model).items():
        show(name, best(run, options.repeats))
    for loop in ("asyncio", "uvloop"):
        show(f"thread and back, {loop}", in_loop(loop, options.repeats, hop))
        show(f"work that may be given up, {loop}", in_loop(loop, options.repeats, watched))
    times = {name: show(name, through(name, options)) for name in ("whole", "echo")}
    show("whole less echo", times["whole"] - times["echo"])


def best(run, repeats: int) -> float:
    """The tenth percentile in milliseconds."""
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return 1000 * float(np.percentile(taken, 10))


def parts(model: str) -> dict:
    """Functions of what happens in the event loop."""
    import orjson

    from gemb.inference.embedder import Embedder
    from gemb.serving.http import wire
    from gemb.serving.metrics import Metrics

    processor = Embedder.load(model).model.document.processor
    vector, metrics = np.random.default_rng(0).normal(size=384).astype(np.float32), Metrics()

    def count():
        for stage in ("tokenize", "queue", "encode"):
            metrics.stage_seconds.labels(stage).observe(0.001)
        metrics.requests.labels("/v1/embeddings", 200).inc()
        metrics.request_seconds.labels("/v1/embeddings").observe(0.001)

    return {
        "tokenize": lambda: processor.prepare([TEXT], "document"),
        "decode the body": lambda: wire.decode(BODY, wire.Embeddings),
        "encode 384 numbers as JSON": lambda: orjson.dumps(
            {"data": [{"embedding": vector}]}, option=orjson.OPT_SERIALIZE_NUMPY
        ),
        "metrics": count,
    }


def in_loop(loop: str, repeats: int, work) -> float:
    """The tenth percentile of a coroutine in an event loop."""
    import uvloop

    async def run() -> float:
        once, taken = work(), []
        for _ in range(repeats):
            start = time.perf_counter()
            await once()
            taken.append(time.perf_counter() - start)
        return 1000 * float(np.percentile(taken, 10))

    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(run())


def hop():
    """Into the batcher's queue, its thread, and back."""
    tower, batcher = Nothing(), batcher_of()

    async def once():
        deadline = time.monotonic() + 60
        await batcher.encode(tower, [tower.example], lane="interactive", deadline=deadline)

    return once


def watched():
    """What cancels work when its client has gone."""
    from gemb.serving.http.web import unless_gone

    class Request:
        async def receive(self):
            await asyncio.sleep(60)

    async def work():
        await asyncio.sleep(0)

    async def once():
        await unless_gone(Request(), work())

    return once


class Nothing:
    """A tower that computes nothing."""

    dim = 384

    def __init__(self):
        from gemb.processors.processor import Example
        from gemb.serving.batching.lanes import Shapes

        self.shapes, self.seconds, self.rate = Shapes.upto(256, budget=1024), {}, 1e6
        self.example, self.vectors = (
            Example("", [1], 13),
            np.full((64, 384), -0.0123456, np.float32),
        )

    def dispatch(self, examples, length, rows):
        return rows

    def read(self, rows):
        return self.vectors[:rows]


def batcher_of():
    """A batcher that runs."""
    from gemb.serving.batching.batcher import Batcher

    made = Batcher()
    made.start()
    return made


def through(what: str, options) -> float:
    """A client's request to a server in another process."""
    command = [sys.executable, __file__, f"--serve={what}", f"--model={options.model}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        port = int(process.stdout.readline())
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

            def ask():
                client.sendall(HEAD + BODY)
                data = client.recv(1 << 16)
                while (head := data.find(b"\r\n\r\n")) < 0:
                    data += client.recv(1 << 16)
                size = int(re.search(rb"content-length: (\d+)", data)[1]) + head + 4 - len(data)
                while size > 0:
                    size -= len(client.recv(1 << 16))

            best(ask, 50)
            return best(ask, options.repeats)
    finally:
        process.terminate()
        process.wait(timeout=60)


def serve_whole(model: str) -> None:
    """`gemb serve` with a tower that computes nothing."""
    from gemb.serving import server
    from gemb.serving.batching import towers

    made = Nothing()
    towers.Tower.warm = lambda tower: None
    towers.Tower.dispatch = lambda tower, examples, length, rows: rows
    towers.Tower.read = staticmethod(made.read)
    server.serve(
        server.Places([model]),
        port=0,
        log=False,
        announce=lambda address: print(address.rpartition(":")[2], flush=True),
    )


def serve_echo(model: str) -> None:
    """An asyncio server that answers as many bytes without looking at the request."""

    async def run():
        async def answer(reader, writer):
            while await reader.read(1 << 16):
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4200\r\n\r\n" + b"x" * 4200)

        made = await asyncio.start_server(answer, "127.0.0.1", 0)
        print(made.sockets[0].getsockname()[1], flush=True)
        await made.serve_forever()

    asyncio.run(run())


if __name__ == "__main__":
    main()
