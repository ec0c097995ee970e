"""Harvests of pictures by the names of their sources, and the one in the cache."""

from collections.abc import Sequence
from pathlib import Path

from gemb.checks import UserError, require, suggest
from gemb.datasets.pictures.harvest import harvest, is_pictures
from gemb.datasets.pictures.installed import clip_art, stamps
from gemb.datasets.pictures.openmoji import openmoji
from gemb.datasets.pictures.own import own_folder
from gemb.files import cache_dir

SOURCES = {
    "openmoji": lambda pixels: openmoji(pixels // 2),
    "tuxpaint": lambda pixels: stamps(size=pixels),
    "openclipart": lambda pixels: clip_art(),
}


def harvest_of(
    names: Sequence[str], folders: Sequence[str], output: str | Path, *, pixels: int = 256
) -> dict:
    """Harvests named sources and folders of the user's own.

    Args:
        names: of SOURCES.
        folders: folders of pictures.
        output: the folder to write.
        pixels: of the longer side at most.

    Returns:
        The content of harvest.json.

    Raises:
        UserError: for an unknown name, a folder or a package that is missing.
    """
    require("PIL", "reading pictures", extra="pictures")
    for name in names:
        if name not in SOURCES:
            known = ", ".join(SOURCES)
            raise UserError(f"--source: unknown {name!r}.{suggest(name, SOURCES)} Known: {known}")
    sources = [SOURCES[name](pixels) for name in dict.fromkeys(names)]
    sources += [own_folder(folder) for folder in folders]
    if len({source.name for source in sources}) < len(sources):
        raise UserError("two folders of the same name; rename one of them, or harvest them apart")
    return harvest(sources, output, size=pixels)


def ensure_pictures(pixels: int = 256) -> str:
    """The harvest of OpenMoji in the cache, made on first use; returns its folder."""
    folder = default_folder(pixels)
    if not is_pictures(folder):
        harvest_of(["openmoji"], [], folder, pixels=pixels)
    return str(folder)


def default_folder(pixels: int = 256) -> Path:
    """Where the harvest of OpenMoji is kept."""
    return cache_dir() / "pictures" / f"openmoji-17.0.0-{pixels}"
