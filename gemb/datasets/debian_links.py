"""What Debian packages depend on, as interactions: made of this machine's own package lists.

A user is a package, an item a package that it depends on (D), recommends (R) or suggests (S). The
facts are those of the lists that apt has; nothing is downloaded. The folder has interactions.tsv
(user, item, type, split), items.tsv and users.tsv (id, description, section, tags).
"""

import csv
import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gemb.checks import UserError
from gemb.files import atomic_folder, cache_dir

LICENCE = "facts of the package lists; each description has its package's own free licence"
LEAST_LINKS, MOST_LINKS = 8, 2_500  # of an item
LEAST_ITEMS = 5  # of a user
TYPES = {"Depends": "D", "Recommends": "R", "Suggests": "S"}
STATUS = Path("/var/lib/dpkg/status")
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]*")


class Package(NamedTuple):
    """One entry of a package list.

    Attributes:
        name: the package's name.
        source: the name of the source that it is built from.
        description: its first line.
        section: such as "games".
        tags: with spaces between them.
        links: (package, type) in the order of the list, the first of alternatives.
    """

    name: str
    source: str
    description: str
    section: str
    tags: str
    links: list[tuple[str, str]]


def ensure_debian_links(*, force: bool = False, lists: str | Path | None = None) -> Path:
    """The folder in the cache, made on first use and then kept.

    Args:
        force: whether to make it again.
        lists: a file of entries like /var/lib/dpkg/status; default what `apt-cache dumpavail`
            prints, or that file.

    Returns:
        The folder.

    Raises:
        UserError: if this machine has no package lists, or too few packages in them.
    """
    final = cache_dir() / "data" / "debian-links"
    if not force and (final / "about.json").is_file():
        return final
    packages = list(read_packages(_lines(lists)))
    write_debian_links(packages, final)
    return final


def write_debian_links(packages: Iterable[Package], output: str | Path, *, seed: int = 0) -> dict:
    """Writes the folder, whole or not at all.

    Links between packages of one source are left out, then items with few or very many links, then
    users with few items. One link of each user is the test.

    Args:
        packages: the entries of a list; the first of each name counts.
        output: the folder to make or replace.
        seed: of the test links.

    Returns:
        The content of about.json.

    Raises:
        UserError: if no user has enough items.
    """
    known: dict[str, Package] = {}
    for package in packages:
        known.setdefault(package.name, package)
    links: dict[tuple[str, str], str] = {}
    for name in sorted(known):
        for other, kind in known[name].links:
            if other in known and known[other].source != known[name].source:
                links.setdefault((name, other), kind)
    counts = Counter(item for _, item in links)
    kept = {pair for pair in links if LEAST_LINKS <= counts[pair[1]] <= MOST_LINKS}
    items_of = Counter(user for user, _ in kept)
    pairs = sorted(pair for pair in kept if items_of[pair[0]] >= LEAST_ITEMS)
    if not pairs:
        raise UserError(
            f"the package lists have {len(known):,} packages, none of which has "
            f"{LEAST_ITEMS} links to packages with {LEAST_LINKS} and more; run `apt-get update`"
        )
    users, items = sorted({user for user, _ in pairs}), sorted({item for _, item in pairs})
    starts = np.searchsorted([user for user, _ in pairs], users)
    lengths = np.diff([*starts, len(pairs)])
    test = set((starts + np.random.default_rng(seed).integers(0, lengths)).tolist())
    about = {
        "source": "package lists of this machine",
        "licence": LICENCE,
        "packages": len(known),
        "users": len(users),
        "items": len(items),
        "links": len(pairs),
    }
    with atomic_folder(output) as folder:
        rows = (
            (*pair, links[pair], "test" if row in test else "train")
            for row, pair in enumerate(pairs)
        )
        _write(folder / "interactions.tsv", ("user", "item", "type", "split"), rows)
        for name, ids in (("users", users), ("items", items)):
            table = (
                (known[i].name, known[i].description, known[i].section, known[i].tags) for i in ids
            )
            _write(folder / f"{name}.tsv", ("id", "description", "section", "tags"), table)
        (folder / "about.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return about


def read_packages(lines: Iterable[str]) -> Iterator[Package]:
    """Entries of a package list: paragraphs of "Field: value", continued by indented lines."""
    fields: dict[str, str] = {}
    field = ""
    for line in (*lines, ""):
        line = line.rstrip("\n")
        if not line.strip():
            if "Package" in fields:
                yield _package(fields)
            fields, field = {}, ""
        elif line[0] in " \t":
            if field and field != "Description":
                fields[field] += " " + line.strip()
        else:
            field, _, value = line.partition(":")
            fields[field] = value.strip()


def _package(fields: dict[str, str]) -> Package:
    name = fields["Package"]
    tags = " ".join(part.strip() for part in fields.get("Tag", "").split(",") if part.strip())
    links = [
        (found[0], letter)
        for field, letter in TYPES.items()
        for part in fields.get(field, "").split(",")
        if (found := _NAME.match(part.strip()))
    ]
    return Package(
        name=name,
        source=fields.get("Source", name).split()[0],
        description=" ".join(fields.get("Description", "").split()),
        section=fields.get("Section", "").rpartition("/")[2],
        tags=tags,
        links=links,
    )


def _lines(lists: str | Path | None) -> list[str]:
    if lists is None:
        try:
            done = subprocess.run(
                ["apt-cache", "dumpavail"], capture_output=True, check=True, timeout=120
            )
            text = done.stdout.decode("utf-8", "replace")
            if "\nPackage: " in text:
                return text.splitlines()
        except (OSError, subprocess.SubprocessError):
            pass
        lists = STATUS
    try:
        return Path(lists).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise UserError(
            f"{lists}: {error.strerror}; debian-links is made of the package lists of Debian or "
            "Ubuntu, which this machine does not have"
        ) from None


def _write(path: Path, head: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(
            file, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None
        )
        writer.writerow(head)
        writer.writerows([cell.replace("\t", " ") for cell in row] for row in rows)
