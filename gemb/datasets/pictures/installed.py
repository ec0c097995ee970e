"""Pictures of Debian's packages, where they are installed: Tux Paint's stamps, Open Clip Art."""

import re
from collections.abc import Iterator
from pathlib import Path

from gemb.checks import UserError, needs
from gemb.datasets.pictures.harvest import Picture, PictureSource

STAMPS = Path("/usr/share/tuxpaint/stamps")  # tuxpaint-stamps-default
CLIP_ART = Path("/usr/share/openclipart/png")  # openclipart-png
_SKIPPED_STAMPS = ("symbols", "military/awards")  # letters and digits
_MONEY = re.compile(r"\b(money|coin|cent|dollar|euro|penny|banknote)s?\b")
_UNSAFE = re.compile(r"[^\w./-]+", re.ASCII)


def stamps(folder: Path = STAMPS, size: int = 256) -> PictureSource:
    """Stamps of Tux Paint: cut-out photos and drawings with captions in many languages.

    Args:
        folder: where the package puts them.
        size: pixels of a side that SVG files are drawn at.

    Raises:
        UserError: if the package is not installed.
    """
    files = sorted(_installed(folder, "tuxpaint-stamps-default").rglob("*.txt"))

    def read() -> Iterator[Picture]:
        for file in files:
            name = file.relative_to(folder).with_suffix("")
            picture = next(
                (p for e in (".png", ".svg") if (p := file.with_suffix(e)).is_file()), None
            )
            captions = _stamp_captions(file)
            if picture is None or "en" not in captions or str(name).startswith(_SKIPPED_STAMPS):
                continue
            english = captions.pop("en")
            if not _MONEY.search(english.casefold()):
                yield Picture(
                    _UNSAFE.sub("-", str(name)), _drawn(picture, size), (english,), captions,
                    name.parts[0],
                )  # fmt: skip

    credit = "Tux Paint stamps, (c) 2002-2022 Bill Kendrick and contributors, https://tuxpaint.org"
    return PictureSource("tuxpaint", "GPL-2", credit, read(), len(files))


def clip_art(folder: Path = CLIP_ART) -> PictureSource:
    """Open Clip Art: drawings with titles.

    Args:
        folder: where the package puts its PNG files.

    Raises:
        UserError: if the package is not installed.
    """
    files = sorted(_installed(folder, "openclipart-png").rglob("*.png"))

    def read() -> Iterator[Picture]:
        for file in files:
            name = file.relative_to(folder).with_suffix("")
            vector = folder.parent / "svg" / name.with_suffix(".svg")
            title = _svg_title(vector) or words_of(file.stem)
            if title:
                place = _UNSAFE.sub("-", str(name))
                yield Picture(place, file.read_bytes(), (title,), {}, name.parts[0])

    credit = "Open Clip Art Library, https://openclipart.org"
    return PictureSource("openclipart", "public domain", credit, read(), len(files))


def words_of(name: str) -> str:
    """The words of a file's name, without numbers at its end.

    Example:
        >>> words_of("golden_retriever-0012"), words_of("IMG_1234")
        ('golden retriever', 'IMG')
    """
    return " ".join(re.sub(r"[\s_\-.]*\(?\d*\)?$", "", re.sub(r"[_\-.]+", " ", name)).split())


def _installed(folder: Path, package: str) -> Path:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; on Debian or Ubuntu: apt install {package}")
    return folder


def _stamp_captions(file: Path) -> dict[str, str]:
    """{language: caption}: the first line is English, others are "de.utf8=Eine Ratte."."""
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    found = {}
    if lines and lines[0].strip():
        found["en"] = lines[0].strip().removesuffix(".")
    for line in lines[1:]:
        key, sign, text = line.partition("=")
        if sign and key.endswith(".utf8") and text.strip():
            found[key.removesuffix(".utf8")] = text.strip()
    return found


def _drawn(picture: Path, size: int) -> bytes:
    if picture.suffix != ".svg":
        return picture.read_bytes()
    with needs("drawing SVG files", extra="pictures"):
        import resvg_py

    try:
        return bytes(
            resvg_py.svg_to_bytes(svg_path=str(picture), width=size, skip_system_fonts=True)
        )
    except ValueError:  # counted as unreadable where it is decoded
        return b""


def _svg_title(file: Path) -> str:
    if not file.is_file():
        return ""
    text = file.read_text(encoding="utf-8", errors="replace")[:20_000]
    found = re.search(r"<dc:title>([^<]+)</dc:title>", text)
    return " ".join(found[1].split()) if found else ""
