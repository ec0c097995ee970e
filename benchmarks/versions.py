"""Two versions of many vectors side by side: time and memory of `gemb compare-vectors`.

    python benchmarks/versions.py --rows=1000000 --dim=384

Both versions are made up: rows around 1,000 centres, and the same rows turned with noise.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

_CHUNK = 1 << 15


def make(folder: Path, rows: int, dim: int) -> list[str]:
    """Writes both versions as float32 .npy files; their places."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(1_000, dim)).astype(np.float32)
    turn = np.linalg.qr(rng.normal(size=(dim, dim)))[0].astype(np.float32)
    places = [str(folder / name) for name in ("old.npy", "new.npy")]
    files = [
        np.lib.format.open_memmap(place, "w+", np.float32, shape=(rows, dim)) for place in places
    ]
    for start in range(0, rows, _CHUNK):
        count = min(_CHUNK, rows - start)
        made = centres[rng.integers(len(centres), size=count)]
        made = made + rng.standard_normal((count, dim), np.float32)
        files[0][start : start + count] = made
        noise = 0.3 * rng.standard_normal((count, dim), np.float32)
        files[1][start : start + count] = made @ turn + noise
    return places


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--folder", default=None, help="for 3 GB of temporary files")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        places = make(Path(folder), args.rows, args.dim)
        command = [sys.executable, "-m", "gemb.cli", "compare-vectors", *places]
        start = time.perf_counter()
        done = subprocess.run(
            [*command, f"--output={folder}/report"], capture_output=True, text=True, check=True
        )
        seconds = time.perf_counter() - start
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(done.stdout.strip())
        row = {"rows": args.rows, "dim": args.dim, "seconds": round(seconds, 1)}
        row |= {"cpu_seconds": round(used.ru_utime + used.ru_stime, 1)}
        print(json.dumps(row | {"peak_gib": round(used.ru_maxrss / 2**20, 2)}))


if __name__ == "__main__":
    main()
