"""What a server does now, as plain text, from two looks at its metrics."""

import re
import urllib.error
import urllib.request
from collections.abc import Mapping

from gemb.checks import UserError

Samples = dict[tuple[str, frozenset], float]
_LINE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def read(address: str) -> Samples:
    """The metrics of a server.

    Args:
        address: such as http://127.0.0.1:8000.

    Raises:
        UserError: it does not answer, or is not a gemb server.
    """
    try:
        with urllib.request.urlopen(f"{address}/metrics", timeout=10) as answer:
            found = parsed(answer.read().decode())
    except (OSError, urllib.error.URLError, ValueError) as error:
        raise UserError(f"{address}: does not answer ({error}); start `gemb serve` first") from None
    if not any(name.startswith("gemb_") for name, _ in found):
        raise UserError(f"{address}: has no metrics of gemb")
    return found


def parsed(text: str) -> Samples:
    """(name, labels) -> value of Prometheus' text form.

    Example:
        >>> parsed('# TYPE a counter\\na_total{route="/x"} 2.0\\n')
        {('a_total', frozenset({('route', '/x')})): 2.0}
    """
    found = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match and not line.startswith("#"):
            name, labels, value = match.groups()
            found[name, frozenset(_LABEL.findall(labels or ""))] = float(value)
    return found


def page(address: str, before: Samples, now: Samples, seconds: float) -> str:
    """What happened between two looks.

    Args:
        address: for the title.
        before, now: from `read`.
        seconds: between them.
    """
    since = {key: value - before.get(key, 0.0) for key, value in now.items()}
    ready = "ready" if _sum(now, "gemb_ready") else "NOT READY"
    lines = [f"{address}  {ready}", ""]
    answers = _by(since, "gemb_requests_total", "route")
    codes = _by(since, "gemb_requests_total", "code")
    lines.append(f"{'route':<26}{'per second':>11}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}")
    for route, count in sorted(answers.items(), key=lambda item: -item[1]):
        if count:
            shown = "".join(
                f"{1000 * quantile(since, 'gemb_request_seconds', share, route=route):>9.1f}"
                for share in (0.5, 0.95, 0.99)
            )
            lines.append(f"{route:<26}{count / seconds:>11.1f}{shown}")
    shown = ", ".join(f"{code}: {count:.0f}" for code, count in sorted(codes.items()) if count)
    lines += ["", f"answers   {shown or 'none'}"]
    waiting = _by(now, "gemb_queue_tokens", "lane")
    lines.append("waiting   " + ", ".join(f"{lane} {n:.0f} tokens" for lane, n in waiting.items()))
    batches = _sum(since, "gemb_batch_rows_count")
    if batches:
        texts = _sum(since, "gemb_batch_rows_sum") / batches
        lines.append(f"batches   {batches / seconds:.1f} per second, {texts:.1f} texts each")
    stages = (
        f"{stage} {1000 * quantile(since, 'gemb_stage_seconds', 0.95, stage=stage):.1f}"
        for stage in ("tokenize", "queue", "encode", "search", "rerank", "classify")
        if _sum(since, "gemb_stage_seconds_count", stage=stage)
    )
    lines.append("p95 ms    " + (", ".join(stages) or "none"))
    for title, name, label in (
        ("served", "gemb_served_total", "generation"),
        ("fallbacks", "gemb_fallback_total", "reason"),
    ):
        counts = {key or "none": n for key, n in _by(since, name, label).items() if n}
        shown = ", ".join(f"{key}: {count:.0f}" for key, count in counts.items())
        lines.append(f"{title:<10}{shown or 'none'}")
    loaded = sorted(
        f"{dict(labels)['index']} {dict(labels)['release']}".strip()
        for name, labels in now
        if name == "gemb_release_info"
    )
    memory = _sum(now, "gemb_memory_bytes") / 1e6
    cpu = 100 * _sum(since, "gemb_cpu_seconds_total") / seconds
    lines.append("loaded    " + (", ".join(loaded) or "models only"))
    lines.append(f"process   {memory:.0f} MB, {cpu:.0f} % CPU, ")
    lines[-1] += f"{_sum(now, 'gemb_compiles_total'):.0f} late compiles"
    return "\n".join(lines)


def quantile(samples: Mapping, name: str, share: float, **labels: str) -> float:
    """The upper bound of the bucket that a quantile is in; 0 where nothing was counted.

    Example:
        >>> rows = 'a_bucket{le="1.0"} 9\\na_bucket{le="2.0"} 10\\na_bucket{le="+Inf"} 10\\n'
        >>> quantile(parsed(rows), "a", 0.5), quantile(parsed(rows), "a", 0.99)
        (1.0, 2.0)
    """
    wanted, buckets = set(labels.items()), {}
    for (found, has), value in samples.items():
        if found == f"{name}_bucket" and wanted <= has:
            bound = float(dict(has)["le"].replace("+Inf", "inf"))
            buckets[bound] = buckets.get(bound, 0.0) + value
    total = buckets.get(float("inf"), 0.0)
    finite = sorted(bound for bound in buckets if bound != float("inf"))
    if not total:
        return 0.0
    return next(
        (bound for bound in finite if buckets[bound] >= share * total), finite[-1] if finite else 0
    )


def _sum(samples: Mapping, name: str, **labels: str) -> float:
    wanted = set(labels.items())
    return sum(v for (found, has), v in samples.items() if found == name and wanted <= has)


def _by(samples: Mapping, name: str, label: str) -> dict[str, float]:
    totals: dict[str, float] = {}
    for (found, has), value in samples.items():
        if found == name:
            key = dict(has).get(label, "")
            totals[key] = totals.get(key, 0.0) + value
    return totals
