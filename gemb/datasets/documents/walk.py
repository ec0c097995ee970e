"""Which files of a folder are read, and of which kind they are; the rest is counted by reason."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from gemb.checks import UserError
from gemb.datasets.documents.patterns import Pattern, matches, parse_patterns

KINDS = {
    "markdown": ["md", "markdown", "mkd", "mdx", "qmd", "rmd"],
    "text": ["txt", "text", "log", "tex", "adoc", "org"],
    "html": ["html", "htm", "xhtml"],
    "rst": ["rst"],
    "pdf": ["pdf"],
    "notebook": ["ipynb"],
    "python": ["py", "pyi"],
    "code": [
        *("c", "h", "cc", "cpp", "cxx", "hh", "hpp", "hxx", "cu", "cuh", "m", "mm", "zig", "nim"),
        *("java", "kt", "kts", "scala", "groovy", "clj", "cs", "fs", "vb", "go", "rs", "swift"),
        *("js", "jsx", "mjs", "cjs", "ts", "tsx", "vue", "svelte", "css", "scss", "dart", "elm"),
        *("rb", "php", "pl", "pm", "lua", "r", "jl", "hs", "ml", "mli", "ex", "exs", "erl"),
        *("sh", "bash", "zsh", "fish", "ps1", "bat", "sql", "proto", "graphql", "tf", "gin"),
        *("f", "f90", "f95", "pas", "v", "sv", "vhd", "cmake", "mk"),
    ],
}
_KIND_OF = {f".{ending}": kind for kind, endings in KINDS.items() for ending in endings}
SKIPPED_FOLDERS = frozenset(["node_modules", "__pycache__", "site-packages", "dist-packages"])
_IGNORE_FILE = ".gitignore"


class Found(NamedTuple):
    """A file to read.

    Attributes:
        path: where it is.
        name: what a passage names it: the folder as it was given, and the path in it.
        kind: one of KINDS.
    """

    path: Path
    name: str
    kind: str


class Rules(NamedTuple):
    """Which files a walk takes.

    Attributes:
        include: if there are any, only files that match; of an unknown ending they are plain text.
        exclude: files and folders to leave out.
        gitignore: whether .gitignore files are followed.
    """

    include: Sequence[Pattern] = ()
    exclude: Sequence[Pattern] = ()
    gitignore: bool = True


def find_files(places: Sequence[str | Path], rules: Rules, left_out: Counter) -> Iterator[Found]:
    """The files of folders, and files given by name, each once.

    Args:
        places: folders and files.
        rules: which files of folders are taken; files given by name always are.
        left_out: counts, by reason, the files and whole folders that are passed over.

    Raises:
        UserError: for a place that does not exist.
    """
    seen = set()
    for place in places:
        root = Path(place).expanduser()
        if root.is_dir():
            files = _walk(root, rules, left_out)
        elif root.exists():
            files = [Found(root, root.as_posix(), kind_of(root) or "text")]
        else:
            raise UserError(
                f"{place}: no such file or folder; relative paths start at {Path.cwd()}"
            )
        for found in files:
            real = os.path.realpath(found.path)
            if real in seen:
                left_out["found twice"] += 1
            else:
                seen.add(real)
                yield found


def kind_of(path: Path) -> str | None:
    """The kind of a file by its ending; files without one, such as README, are text."""
    return _KIND_OF.get(path.suffix.lower(), None if path.suffix else "text")


def _walk(root: Path, rules: Rules, left_out: Counter) -> Iterator[Found]:
    ignored: dict[str, list[tuple[str, list[Pattern]]]] = {}
    for folder, folders, files in os.walk(root):
        below = Path(folder).relative_to(root).as_posix()
        below = "" if below == "." else f"{below}/"
        parent = below.rstrip("/").rpartition("/")[0]
        rows = list(ignored.get(f"{parent}/" if parent else "", [])) if below else []
        if rules.gitignore and _IGNORE_FILE in files:
            rows.append((below, _ignore_file(Path(folder) / _IGNORE_FILE)))
        ignored[below] = rows
        kept = []
        for name in sorted(folders):
            reason = _folder_reason(Path(folder, name), below + name, rules, rows)
            if reason:
                left_out[reason] += 1
            else:
                kept.append(name)
        folders[:] = kept
        for name in sorted(files):
            path = Path(folder, name)
            reason, kind = _file_reason(path, below + name, rules, rows)
            if reason:
                left_out[reason] += 1
            else:
                yield Found(path, path.as_posix(), kind)


def _folder_reason(path: Path, below: str, rules: Rules, ignored: list) -> str:
    if path.name.startswith("."):
        return "hidden folders"
    if path.is_symlink():
        return "linked folders"
    if path.name in SKIPPED_FOLDERS or (path / "pyvenv.cfg").exists():
        return "folders of installed packages"
    if matches(rules.exclude, below, folder=True):
        return "excluded folders"
    return "folders in .gitignore" if _is_ignored(ignored, below, folder=True) else ""


def _file_reason(path: Path, below: str, rules: Rules, ignored: list) -> tuple[str, str]:
    """Why a file is passed over, or "" and its kind."""
    kind = kind_of(path)
    if matches(rules.exclude, below):
        return "excluded", ""
    if rules.include:
        if not matches(rules.include, below):
            return "not included", ""
        return "", kind or "text"
    if path.name.startswith("."):
        return "hidden", ""
    if _is_ignored(ignored, below):
        return "in .gitignore", ""
    return ("", kind) if kind else (f"kind {path.suffix.lower()}", "")


def _is_ignored(ignored: list, below: str, *, folder: bool = False) -> bool:
    for start, patterns in reversed(ignored):
        decided = matches(patterns, below.removeprefix(start), folder=folder)
        if decided is not None:
            return decided
    return False


def _ignore_file(path: Path) -> list[Pattern]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            found += parse_patterns([line])
        except UserError:  # git overlooks broken lines too
            continue
    return found
