"""The thread that encodes: admission, deadlines, cancelled clients, failures."""

import asyncio
import threading
import time

import numpy as np
import pytest

from gemb.processors.processor import Example

pytestmark = pytest.mark.extra("serve")


class Tower:
    """Gives the size of a text; waits for `go` where a test says so."""

    dim, rate = 1, 1000.0

    def __init__(self):
        from gemb.serving.batching.lanes import Shapes

        self.shapes, self.seconds = Shapes.upto(16, budget=64), {}
        self.go, self.begun, self.computed = threading.Event(), threading.Event(), []
        self.go.set()

    def dispatch(self, examples, length, rows):
        self.begun.set()
        assert self.go.wait(10)
        self.computed.append([example.value for example in examples])
        if any(example.value == "broken" for example in examples):
            raise RuntimeError("of the device")
        made = np.array([[float(example.size)] for example in examples], np.float32)
        made[[example.value == "nan" for example in examples]] = np.nan
        return made

    def read(self, output):
        return output


@pytest.fixture
def batcher():
    from gemb.serving.batching.batcher import Batcher

    made = Batcher()
    made.start()
    yield made
    made.stop()


def examples(*texts):
    return [Example(text, [ord(c) for c in text], len(text)) for text in texts]


def encode(batcher, tower, *texts, lane="interactive", seconds=10.0):
    deadline = time.monotonic() + seconds
    return batcher.encode(tower, examples(*texts), lane=lane, deadline=deadline)


def test_vectors_come_back_in_their_places(batcher):
    tower = Tower()
    job = asyncio.run(encode(batcher, tower, "four", "a", "four", "b" * 16))
    assert job.vectors[:, 0].tolist() == [4, 1, 4, 16]
    assert sum(map(len, tower.computed)) == 3  # equal texts once
    assert job.queued <= job.started <= job.finished


def test_what_comes_while_a_batch_runs_gathers(batcher):
    tower = Tower()
    tower.go.clear()

    async def many():
        first = asyncio.ensure_future(encode(batcher, tower, "first"))
        await asyncio.to_thread(tower.begun.wait, 10)
        others = [asyncio.ensure_future(encode(batcher, tower, f"t{i}")) for i in range(4)]
        await asyncio.sleep(0.05)
        tower.go.set()
        await asyncio.gather(first, *others)

    asyncio.run(many())
    assert tower.computed == [["first"], ["t0", "t1", "t2", "t3"]]


def test_a_deadline_in_the_queue_is_504_and_not_computed(batcher):
    from gemb.serving.http.errors import ApiError

    tower = Tower()
    tower.go.clear()

    async def late():
        first = asyncio.ensure_future(encode(batcher, tower, "first"))
        await asyncio.to_thread(tower.begun.wait, 10)
        with pytest.raises(ApiError) as error:
            await encode(batcher, tower, "late", seconds=0.05)
        tower.go.set()
        await first
        await encode(batcher, tower, "next")
        return error.value

    assert asyncio.run(late()).status == 504
    assert tower.computed == [["first"], ["next"]]
    assert batcher.expired == 1


def test_a_cancelled_request_is_not_computed(batcher):
    tower = Tower()
    tower.go.clear()

    async def gone():
        first = asyncio.ensure_future(encode(batcher, tower, "first"))
        await asyncio.to_thread(tower.begun.wait, 10)
        second = asyncio.ensure_future(encode(batcher, tower, "gone"))
        await asyncio.sleep(0.02)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        tower.go.set()
        await first
        await encode(batcher, tower, "next")

    asyncio.run(gone())
    assert tower.computed == [["first"], ["next"]]


def test_a_failed_batch_fails_its_jobs_only(batcher):
    from gemb.serving.http.errors import ApiError

    tower = Tower()
    with pytest.raises(RuntimeError, match="of the device"):
        asyncio.run(encode(batcher, tower, "broken"))
    with pytest.raises(ApiError, match="not finite"):
        asyncio.run(encode(batcher, tower, "fine", "nan"))
    assert asyncio.run(encode(batcher, tower, "ok")).vectors[0, 0] == 2


def test_admission_is_by_positions_and_before_any_work(batcher):
    from gemb.serving.http.errors import ApiError

    batcher.expect(Tower())  # 1,000 positions a second
    with batcher.admit(10_000, "bulk", 1.0):  # nothing waits: the deadline decides
        with pytest.raises(ApiError) as error:
            batcher.admit(16, "bulk", 5.0)
        assert error.value.status == 429
        assert error.value.retry_after == pytest.approx(10.0)
        assert int(error.value.headers()["retry-after"]) >= 10
        batcher.admit(16, "interactive", 1.0)  # it goes first
        with batcher.admit(700, "interactive", 1.0), pytest.raises(ApiError):
            batcher.admit(100, "interactive", 1.0)
    batcher.admit(16, "bulk", 5.0)
    assert batcher.waiting("bulk") == batcher.waiting("interactive") == 0


def test_what_waits_when_the_server_stops_fails(batcher):
    from gemb.serving.http.errors import ApiError

    tower = Tower()
    tower.go.clear()

    async def stopped():
        first = asyncio.ensure_future(encode(batcher, tower, "first"))
        await asyncio.to_thread(tower.begun.wait, 10)
        second = asyncio.ensure_future(encode(batcher, tower, "second"))
        await asyncio.sleep(0.02)
        ending = asyncio.ensure_future(asyncio.to_thread(batcher.stop))
        await asyncio.sleep(0.02)
        tower.go.set()
        await ending
        return await asyncio.gather(first, second, return_exceptions=True)

    first, second = asyncio.run(stopped())
    assert first.vectors[0, 0] == 5
    assert isinstance(second, ApiError)
    assert second.status == 503


def test_a_thread_that_ends_is_noticed(batcher):
    assert batcher.alive
    batcher.stop()
    assert not batcher.alive
