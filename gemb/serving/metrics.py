"""What the server counts, for Prometheus; never an id or a text as a label."""

import os
import resource
import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 16384, 65536)


class Metrics:
    """The metrics of one server; one process has one registry.

    Attributes:
        registry: that they are in.
    """

    def __init__(self):
        self.registry = made = CollectorRegistry()
        self.requests = Counter(
            "gemb_requests", "Answers by route and status.", ["route", "code"], registry=made
        )
        self.request_seconds = Histogram(
            "gemb_request_seconds", "Seconds of a request.", ["route"], buckets=_SECONDS,
            registry=made,
        )  # fmt: skip
        self.stage_seconds = Histogram(
            "gemb_stage_seconds",
            "Seconds of a stage: tokenize, queue, encode, search, rerank, classify.",
            ["stage"], buckets=_SECONDS, registry=made,
        )  # fmt: skip
        self.queue_tokens = Gauge(
            "gemb_queue_tokens", "Padded tokens that wait.", ["lane"], registry=made
        )
        self.inflight = Gauge("gemb_inflight", "Requests that are being answered.", registry=made)
        self.rejected = Counter(
            "gemb_rejected", "Requests refused before any work.", ["reason"], registry=made
        )
        self.expired = Counter(
            "gemb_expired", "Requests whose deadline passed in the queue.", registry=made
        )
        self.batch_rows = Histogram(
            "gemb_batch_rows", "Texts in a batch.", buckets=_COUNTS, registry=made
        )
        self.batch_tokens = Histogram(
            "gemb_batch_tokens", "Padded tokens in a batch.", buckets=_COUNTS, registry=made
        )
        self.padding = Gauge(
            "gemb_padding_ratio", "Share of padding in the last batches.", registry=made
        )
        self.compiles = Gauge(
            "gemb_compiles_total", "Programs compiled in requests; 0 is right.", registry=made
        )
        self.served = Counter(
            "gemb_served", "Searches by generation and arm.", ["generation", "arm"], registry=made
        )
        self.fallback = Counter(
            "gemb_fallback", "Searches not answered by the newest version.", ["reason"],
            registry=made,
        )  # fmt: skip
        self.retriever = Counter(
            "gemb_retriever", "Searches by what answered.", ["name"], registry=made
        )
        self.empty = Counter(
            "gemb_empty", "Searches without a hit, by arm.", ["arm"], registry=made
        )
        self.classified = Counter(
            "gemb_classified", "Texts by the width at which they were classified.",
            ["classifier", "width"], registry=made,
        )  # fmt: skip
        self.release_info = Gauge(
            "gemb_release_info", "1 for each version that is loaded.",
            ["index", "release", "fingerprint", "dim"], registry=made,
        )  # fmt: skip
        self.vectors_age = Gauge(
            "gemb_vectors_age_seconds", "Age of the vectors.", ["set"], registry=made
        )
        self.index_rows = Gauge("gemb_index_rows", "Documents.", ["index"], registry=made)
        self.canary = Gauge(
            "gemb_canary_cosine",
            "Lowest cosine of documents encoded again and as stored.",
            ["model"],
            registry=made,
        )
        self.swap_seconds = Histogram(
            "gemb_swap_seconds", "Seconds to load and warm a release next to the old one.",
            buckets=(0.1, 0.5, 1, 5, 10, 30, 60, 300), registry=made,
        )  # fmt: skip
        self.swap_failed = Counter(
            "gemb_swap_failed", "Releases that could not be loaded.", registry=made
        )
        self.shadow = Histogram(
            "gemb_shadow_overlap", "Overlap@10 of shadow traffic.",
            buckets=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0), registry=made,
        )  # fmt: skip
        self.rollout = Gauge(
            "gemb_rollout_share", "Share of requests that a new release gets.", ["experiment"],
            registry=made,
        )  # fmt: skip
        self.ready = Gauge("gemb_ready", "1 where /ready says 200.", registry=made)
        self.cpu = Gauge("gemb_cpu_seconds_total", "CPU seconds of the process.", registry=made)
        self.memory = Gauge("gemb_memory_bytes", "Resident memory.", registry=made)
        self.device_memory = Gauge(
            "gemb_device_memory_bytes", "Memory in use on the accelerator.", registry=made
        )
        self._made: list = []

    def batch(self, batch, seconds: float) -> None:
        """Counts a batch, see `gemb.serving.batching.batcher.Batcher`."""
        real = sum(example.size for example in batch.examples)
        self.batch_rows.observe(len(batch.entries))
        self.batch_tokens.observe(batch.positions)
        self.padding.set(1 - real / batch.positions)

    def aged(self, name: str, made: float) -> None:
        """Remembers when a set of vectors was made, for its age."""
        self.vectors_age.labels(name).set_function(lambda: time.time() - made)

    def page(self) -> bytes:
        """The text that Prometheus reads."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        self.cpu.set(used.ru_utime + used.ru_stime)
        self.memory.set(_resident())
        self.device_memory.set(_device_bytes())
        return generate_latest(self.registry)


def names() -> set[str]:
    """Names of all series, as Prometheus has them."""
    found = set()
    for family in Metrics().registry.collect():
        found.add(family.name)
        if family.type == "counter":
            found.add(f"{family.name}_total")
        if family.type == "histogram":
            found |= {f"{family.name}_{part}" for part in ("bucket", "sum", "count")}
    return found


def _resident() -> int:
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _device_bytes() -> int:
    import jax

    used = (device.memory_stats() for device in jax.local_devices() if device.platform != "cpu")
    return sum((stats or {}).get("bytes_in_use", 0) for stats in used)
