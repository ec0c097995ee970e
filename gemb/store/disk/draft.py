"""A version that is being written."""

import os
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gemb import __version__
from gemb.checks import UserError
from gemb.files import sync_path, users_errors
from gemb.identity import Space, Version
from gemb.store.disk import layout, writer
from gemb.store.embeddings import write_embeddings
from gemb.store.rows import check_vectors, id_bytes


class Draft:
    """A version that is being written; see `VersionStore.draft`.

    Attributes:
        version, space: of the vectors.
        folder: where further files of the release may be written, such as an index.
    """

    def __init__(self, store: Path, version: Version, space: Space):
        self.version, self.space, self._store = version, space, store
        name = f".{layout.folder_name(version)}.{os.getpid()}.{secrets.token_hex(4)}"
        self.folder = store / layout.VERSIONS / name
        self._sets: dict[str, dict] = {}
        self.folder.mkdir()

    def add(
        self,
        name: str,
        ids: Sequence[str | int] | np.ndarray,
        vectors: np.ndarray,
        *,
        kind: str = "document",
        texts: str = "",
        model: str = "",
    ) -> None:
        """Adds a set of vectors, such as "users" or "items".

        Args:
            name: of the set: lower-case letters, digits and underscores.
            ids: one per row; unique.
            vectors: [rows, dim] float32 or float16 of the draft's space.
            kind: the side that encoded them, "query" or "document".
            texts: a fingerprint of the encoded texts; "" for none.
            model: fingerprint of the tower that made them; default that of the space.

        Raises:
            SpaceError: vectors of another dim.
            UserError: a name, id or vector that is not accepted, or a full disk.
        """
        if not name.replace("_", "").isalnum() or not name.isascii() or name != name.lower():
            raise UserError(f"set {name!r}: use lower-case letters, digits and underscores")
        if kind not in ("query", "document"):
            raise UserError(f"set {name}: kind: expected query or document, got {kind!r}")
        if name in self._sets:
            raise UserError(f"set {name}: is there already")
        where = f"{self._store}, set {name}"
        id_bytes(ids, where)
        check_vectors(vectors, ids, self.space, where)
        write_embeddings(
            self.folder / name, vectors, model=model or getattr(self.space, kind),
            texts=texts, kind=kind, ids=ids, space=self.space.id,
        )  # fmt: skip
        rows, dim = vectors.shape
        self._sets[name] = {"rows": rows, "dim": dim, "dtype": str(vectors.dtype), "kind": kind}

    def finish(self, about: dict) -> None:
        """Makes the version appear, whole; the caller holds the lock.

        Files, manifest, list of names: each is on the disk before the next, and the new name last.
        """
        if not self._sets:
            raise UserError(f"{self._store}: version {self.version} has no vectors; add a set")
        final = layout.folder_of(self._store, self.version)
        with users_errors(self._store):
            for path in self.folder.rglob("*"):
                sync_path(path)
            content = {"sets": self._sets, "files": layout.digests(self.folder)}
            content |= {"made": time.time(), "gemb": __version__, "about": about}
            layout.write_manifest(self.folder, self.version, self.space, content)
            writer.set_writable(self.folder, False)
            self.folder.chmod(0o755)  # some systems rename no folder that is read-only
            self.folder.rename(final)
            final.chmod(0o555)
            sync_path(final.parent)
