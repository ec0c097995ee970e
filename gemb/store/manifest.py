"""The JSON file that says what a folder holds: its format, the version of that, and its fields."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import UnionType

from gemb.checks import UserError


def parse_manifest(path: Path, form: str) -> dict:
    """The manifest of a folder of one format, of any version.

    Raises:
        OSError, ValueError, RecursionError: if there is none, or another file.
    """
    manifest = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(manifest, dict) or manifest.get("format") != form:
        raise ValueError(f"no {form}")
    return manifest


def read_manifest(
    path: Path, form: str, version: int, fields: Mapping[str, type | UnionType], made_by: str
) -> dict:
    """The manifest of a folder of one format and version.

    Args:
        path: the file.
        form: its "format".
        version: its "version".
        fields: what every version has, and of which type.
        made_by: the command that writes such folders, for messages.

    Raises:
        UserError: if there is none, a broken one, or one of another version.
    """
    try:
        manifest = parse_manifest(path, form)
        found = manifest["version"]
        for name, kind in fields.items():
            if not isinstance(manifest.get(name), kind):
                expected = getattr(kind, "__name__", kind)
                raise ValueError(f"{name}: expected {expected}, got {manifest.get(name)!r:.40}")
    except (OSError, ValueError, KeyError, RecursionError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read ({why}); make it with `{made_by}`") from None
    if found != version:
        raise UserError(
            f"{path}: of format version {found}, but this gemb reads version {version}; make it "
            f"again with `{made_by}`"
        )
    return manifest
