"""Folders of Python -> (docstring, function) pairs: a corpus, a test set and training pairs.

Every Python carries its own data for code search: queries are the first paragraphs of docstrings,
documents are the functions with the docstring cut out. Belongs here: which files are read, and the
folder that a harvest is. One file is read in `python_functions.py`; the test set is made in
`python_split.py`.

A harvest is a BEIR folder and more:

    corpus.jsonl           {"_id", "title", "text", "path", "name", "line"}
    queries.jsonl          {"_id", "text"}: the test queries; qrels/test.tsv: their answers
    train_stdlib.jsonl     {"query", "document", "path", "name", "line"}: the same folders' pairs
    train_packages.jsonl   likewise, of packages that are not searched; where packages were given
    harvest.json           counts, versions and the fingerprint of the content
"""

import functools
import gc
import hashlib
import json
import multiprocessing
import os
import platform
import sysconfig
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from gemb.checks import UserError
from gemb.datasets.python_functions import Unreadable, read_functions
from gemb.datasets.python_split import Record, Split, make_record, split
from gemb.files import atomic_folder, cache_dir

HARVESTER = 2  # raise it when the same files would give another harvest
MAX_PACKAGE_BYTES = 4_000_000  # of each package, so that none dominates
SKIPPED_FOLDERS = frozenset(
    [
        *("test", "tests", "testing", "idlelib", "lib2to3"),
        *("_vendor", "_vendored", "vendor", "node_modules"),
        *("__pycache__", "site-packages", "dist-packages"),
    ]
)
_PARALLEL_FILES = 300  # below this, starting processes takes longer than reading


class _File(NamedTuple):
    absolute: str
    path: str  # from the root's name on
    module: str


def harvest(
    folders: Mapping[str, str | Path] | Iterable[str | Path],
    output: str | Path,
    *,
    packages: Mapping[str, str | Path] | Iterable[str | Path] = (),
    undocumented: bool = False,
    progress: bool = True,
) -> dict:
    """Harvests folders of Python into a folder that training, evaluation and search read.

    Args:
        folders: what is searched and tested on, as {name: folder} or plain folders.
        output: the folder to make; an old harvest there is replaced when the new one is whole.
        packages: folders of packages to train on only, each package read up to 4 MB.
        undocumented: whether the corpus also holds functions without a docstring.
        progress: whether to show progress bars.

    Returns:
        The content of `harvest.json`: "counts", "skipped", "fingerprint" and versions.

    Raises:
        UserError: for a missing folder, one without Python functions, or an output that cannot be
            written or that holds something other than a harvest.
    """
    output, roots, extra = Path(output), _named(folders), _named(packages)
    if output.exists() and not is_harvest(output) and (output.is_file() or any(output.iterdir())):
        raise UserError(f"{output} exists and is no harvest: name another folder as the output")
    skipped: Counter = Counter()
    files = [file for name, root in roots.items() for file in _list_files(name, root)]
    records = _read(files, skipped, undocumented=undocumented, progress=progress and "harvest")
    if not records:
        wanted = "functions" if undocumented else "functions with docstrings"
        raise UserError(f"no Python {wanted} in {', '.join(map(str, roots.values()))}")
    more = _capped(file for name, root in extra.items() for file in _list_files(name, root))
    pairs = _read(more, skipped, undocumented=False, progress=progress and "harvest packages")
    summary = {
        "harvester": HARVESTER,
        "python": platform.python_version(),
        "folders": {name: str(root) for name, root in (roots | extra).items()},
        "packages": dict(sorted(_distributions(extra.values()))),
        "files": len(files) + len(more),
        "skipped": dict(sorted(skipped.items())),
    }
    with atomic_folder(output) as folder:
        parts = split(records, pairs)
        _write(parts, folder, with_packages=bool(extra))
        summary |= {"counts": parts.counts, "fingerprint": _fingerprint(folder)}
        (folder / "harvest.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return summary


def ensure_harvest(*, force: bool = False, progress: bool = True) -> Path:
    """The harvest of this interpreter and its packages, made on first use and then kept.

    Args:
        force: whether to make it again although it is there.
        progress: whether to show progress bars.

    Returns:
        The folder, see `default_folder`.
    """
    folder = default_folder()
    if force or not is_harvest(folder):
        harvest_interpreter(folder, progress=progress)
    return folder


def default_folder() -> Path:
    """The cached harvest's folder: another Python, package or harvester has another one."""
    installed = sorted(_distributions(site_packages().values()))
    what = json.dumps([HARVESTER, MAX_PACKAGE_BYTES, installed])
    digest = hashlib.sha256(what.encode()).hexdigest()[:12]
    return cache_dir() / "harvest" / f"{platform.python_version()}-{digest}"


def harvest_interpreter(output: str | Path, *, progress: bool = True) -> dict:
    """Harvests the standard library (searched, a fifth held out) and site-packages (training)."""
    stdlib = {"stdlib": sysconfig.get_path("stdlib")}
    return harvest(stdlib, output, packages=site_packages(), progress=progress)


def site_packages() -> dict[str, Path]:
    """The folders of this interpreter's installed packages by name, as `harvest` takes them."""
    folders = (sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
    found = dict.fromkeys(Path(folder).resolve() for folder in folders)
    return {("site-packages", "site-packages-2")[n]: path for n, path in enumerate(found)}


def is_harvest(folder: str | Path) -> bool:
    """Whether `folder` has a finished harvest."""
    return (Path(folder) / "harvest.json").is_file()


def read_summary(folder: str | Path) -> dict:
    """The content of a harvest's `harvest.json`, see `harvest`.

    Raises:
        UserError: if it is damaged.
    """
    path = Path(folder) / "harvest.json"
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        if {"counts", "skipped", "files", "folders"} <= summary.keys():
            return summary
    except (OSError, ValueError, AttributeError):
        pass
    raise UserError(f"{path}: damaged; make the harvest again with --force")


def is_harvest_of(
    folder: str | Path,
    folders: Mapping[str, str | Path] | Iterable[str | Path],
    packages: Mapping[str, str | Path] | Iterable[str | Path] = (),
) -> bool:
    """Whether the harvest in `folder` was made of these folders, see `harvest`.

    Raises:
        UserError: for a missing folder, or a damaged harvest.
    """
    asked = (_named(folders) | _named(packages)).values()
    held = map(Path, read_summary(folder)["folders"].values())
    return {path.resolve() for path in asked} == {path.resolve() for path in held}


def _distributions(folders: Iterable[Path]) -> Iterator[tuple[str, str]]:
    for folder in folders:
        for info in folder.glob("*.dist-info"):
            name, _, version = info.stem.partition("-")
            yield name, version


def _named(folders: Mapping[str, str | Path] | Iterable[str | Path]) -> dict[str, Path]:
    """Folders by name; a plain folder is named after itself, a second one of that name gets a 2."""
    if isinstance(folders, Mapping):
        named = {name: Path(folder) for name, folder in folders.items()}
    else:
        named = {}
        for folder in map(Path, folders):
            name, number = folder.resolve().name or "root", 1
            while (unique := name if number == 1 else f"{name}-{number}") in named:
                number += 1
            named[unique] = folder
    for folder in named.values():
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; name folders that hold Python files")
    return named


def _list_files(name: str, root: Path) -> Iterator[_File]:
    """Python files in the order of their paths; links to folders are not followed."""
    for folder, children, files in os.walk(root):
        if "pyvenv.cfg" in files:
            children.clear()
            continue
        children[:] = sorted(c for c in children if c not in SKIPPED_FOLDERS and c[0] != ".")
        for file in sorted(files):
            if file.endswith(".py"):
                absolute = os.path.join(folder, file)
                path = os.fsencode(os.path.relpath(absolute, root)).decode(errors="replace")
                module = path.removesuffix(".py").replace(os.sep, ".").removesuffix(".__init__")
                yield _File(absolute, f"{name}/{path}", module)


def _capped(files: Iterable[_File]) -> list[_File]:
    """Of each package at most `MAX_PACKAGE_BYTES`: the files that come first by their hash."""
    packages = defaultdict(list)
    for file in files:
        packages[file.module.partition(".")[0]].append(file)
    kept = []
    for group in packages.values():
        size = 0
        for file in sorted(group, key=lambda file: hashlib.sha256(file.module.encode()).digest()):
            size += os.path.getsize(file.absolute) if os.path.exists(file.absolute) else 0
            if size <= MAX_PACKAGE_BYTES:
                kept.append(file)
    return sorted(kept)


def _read(
    files: list[_File], skipped: Counter, *, undocumented: bool, progress: str | bool
) -> list[Record]:
    """Reads files, several at a time, in their order; counts in `skipped` why some gave nothing."""
    if not files:
        return []
    read = functools.partial(_read_file, undocumented=undocumented)
    bar = functools.partial(tqdm, total=len(files), unit="file", disable=not progress)
    if len(files) < _PARALLEL_FILES:
        results = list(bar(map(read, files), desc=progress or None))
    else:
        # spawned, not forked: the caller may hold the threads of JAX or TensorFlow
        spawn = multiprocessing.get_context("spawn")
        # without the garbage collector, which finds nothing in a syntax tree, parsing takes a third
        with ProcessPoolExecutor(os.cpu_count(), mp_context=spawn, initializer=gc.disable) as pool:
            results = list(bar(pool.map(read, files, chunksize=32), desc=progress or None))
    skipped.update(result for result in results if isinstance(result, str))
    return [record for result in results if not isinstance(result, str) for record in result]


def _read_file(file: _File, *, undocumented: bool) -> list[Record] | str:
    try:
        functions = read_functions(file.absolute, undocumented=undocumented)
    except Unreadable as reason:
        return str(reason)
    return [make_record(function, file.path, file.module) for function in functions]


def _write(parts: Split, folder: Path, *, with_packages: bool) -> None:
    tables = {"corpus": parts.corpus, "queries": parts.queries, "train_stdlib": parts.train}
    if with_packages:
        tables["train_packages"] = parts.train_packages
    for name, rows in tables.items():
        with open(folder / f"{name}.jsonl", "w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "qrels").mkdir()
    with open(folder / "qrels" / "test.tsv", "w", encoding="utf-8") as file:
        file.write("query-id\tcorpus-id\tscore\n")
        file.writelines(f"{query}\t{document}\t1\n" for query, document in parts.qrels)


def _fingerprint(folder: Path) -> str:
    """Equal for harvests of equal content: a sha256 over every table, in the order of names."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.*sv")) + sorted(folder.glob("*.jsonl")):
        digest.update(f"{path.name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()
