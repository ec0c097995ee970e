"""Index folders: a searcher on disk, with the fingerprint of the model that its vectors are of.

    index.json      format, version, kind, model, similarity, documents, dim, settings, and what the
                    caller adds
    *.npy, scann/   what the searcher wrote

Scores between vectors of two models are noise, so a folder is only read for the model it was made
with, and for queries that are compared in the same way. Nothing in a folder is unpickled.
"""

import json
from pathlib import Path

from gemb import files
from gemb.checks import UserError
from gemb.files import atomic_folder, parse_manifest
from gemb.identity import SpaceError
from gemb.search.registry import saved
from gemb.search.searcher import Searcher

FORMAT, VERSION = "gemb index", 2
# What every version has, by kind, but a hybrid's parts.
_FIELDS = {"model": str, "kind": str, "documents": int, "settings": dict, "about": dict}
_FIELDS |= {"dim": int | None, "similarity": str}
_BROKEN = (OSError, EOFError, ValueError, KeyError, TypeError, RuntimeError)


def save_index(
    folder: str | Path, index: Searcher, *, model: str, similarity: str = "cosine", **about
) -> None:
    """Writes a searcher into a folder, whole or not at all.

    Args:
        folder: to make, or to replace.
        index: any searcher of this package.
        model: the fingerprint of the model that its vectors are of; "" for BM25 alone.
        similarity: what its inner products are, "cosine" or "dot".
        **about: JSON values to save with it, e.g. where the texts are.

    Raises:
        UserError: the disk is full or the place cannot be written; or the folder holds something
            else than an index.
    """
    folder = Path(folder)
    check_replaceable(folder)
    with atomic_folder(folder) as temporary:
        content = {"format": FORMAT, "version": VERSION, "model": model}
        content |= {"similarity": similarity, "about": about}
        text = json.dumps(content | _save(index, temporary), indent=2)
        (temporary / "index.json").write_text(text + "\n", encoding="utf-8")


def check_replaceable(folder: Path) -> None:
    """Raises UserError if the folder holds something else than an index."""
    if not folder.exists():
        return
    try:
        parse_manifest(folder / "index.json", FORMAT)
    except (OSError, ValueError, RecursionError):
        raise UserError(f"{folder}: exists and is not an index; choose another folder") from None


def read_manifest(folder: str | Path) -> dict:
    """The content of index.json.

    Raises:
        UserError: no index there, a broken one, or one of another format version.
    """
    path = Path(folder) / "index.json"
    return files.read_manifest(path, FORMAT, VERSION, _FIELDS, "gemb index")


def load_index(folder: str | Path, *, model: str, similarity: str = "cosine") -> Searcher:
    """Reads an index for the queries of one model.

    Args:
        folder: what `save_index` wrote.
        model: the fingerprint of the model that encodes the queries; not asked for BM25 alone.
        similarity: how the model compares vectors; likewise.

    Returns:
        The searcher.

    Raises:
        SpaceError: if it is of another model.
        UserError: if the index is missing, broken, of another version, or by another
            similarity.
    """
    found = read_manifest(folder)
    if found["dim"] and found["model"] != model:
        raise SpaceError(
            f"{folder}: an index of the model with fingerprint {found['model']}, but the "
            f"queries are of {model}; their scores would be noise: load the index's model, or run "
            "`gemb index` with yours"
        )
    if found["dim"] and found["similarity"] != similarity:
        raise UserError(
            f"{folder}: an index by {found['similarity']}, but the model compares vectors by "
            f"{similarity}; run `gemb index` again"
        )
    return _load(Path(folder), found)


def _save(index: Searcher, folder: Path) -> dict:
    """Writes a searcher without its model's name; returns what `_load` needs.

    A searcher made of others names them as `searchers`; each goes into a folder of its own.
    """
    settings = index.save(folder)
    for number, one in enumerate(getattr(index, "searchers", ())):
        (folder / str(number)).mkdir()
        settings.setdefault("parts", []).append(_save(one, folder / str(number)))
    kind = next(name for name, made in saved().items() if type(index) is made)
    return {"kind": kind, "documents": index.documents, "dim": index.dim, "settings": settings}


def _load(folder: Path, part: dict) -> Searcher:
    """Reads what `_save` wrote.

    Raises:
        UserError: files missing or broken, or not those of the manifest.
    """
    kind, known = part.get("kind"), saved()
    if kind not in known:
        raise UserError(f"{folder}: an index of unknown kind {kind!r}; known are {[*known]}")
    try:
        settings = dict(part["settings"])
        if "parts" in settings:
            parts = enumerate(settings.pop("parts"))
            settings["searchers"] = [_load(folder / str(number), each) for number, each in parts]
        made = known[kind].load(folder, settings)
    except _BROKEN as error:
        raise UserError(f"{folder}: cannot be read ({error}); make it again") from None
    if (made.documents, made.dim) != (part["documents"], part["dim"]):
        raise UserError(
            f"{folder}: holds {made.documents} documents of dim {made.dim}, but index.json says "
            f"{part['documents']} of {part['dim']}; make it again"
        )
    return made
