"""Pictures or videos to search: a captioned folder, or all such files below a folder."""

import functools
from pathlib import Path

from gemb.checks import UserError
from gemb.data.sources.pictures import CAPTIONS, ENDINGS, VIDEO_ENDINGS, Captioned
from gemb.data.sources.records import content_digest, digest
from gemb.structs import Image, Video

_ENDINGS = {"image": ENDINGS, "video": VIDEO_ENDINGS}
_MADE = {"image": Image, "video": Video}
_WORDS = {"image": "pictures", "video": "videos"}


class PictureCorpus:
    """Pictures or videos to search.

    Args:
        place: a captioned folder, or one with such files at any depth.
        kind: "image" or "video". An animation is a video for the second, its first frame a picture
            for the first.

    Raises:
        UserError: for a folder that is missing or holds none.
    """

    def __init__(self, place: str | Path, kind: str = "image"):
        self.folder, self.kind = Path(place).expanduser(), kind
        captions = _has_captions(self.folder)
        self._captioned = Captioned(self.folder, {}, "", kind) if captions else None
        self._files = [] if self._captioned else media_files(self.folder, _ENDINGS[kind])
        if not len(self):
            raise UserError(f"{place}: holds no {_WORDS[kind]} ({', '.join(_ENDINGS[kind])})")

    def __len__(self) -> int:
        return len(self._captioned or self._files)

    def media(self, row: int) -> Image | Video:
        """The picture or the video of a row.

        Raises:
            UserError: where it is missing.
        """
        if self._files:
            return _MADE[self.kind](str(self._files[row]))
        return self._record(row)[self.kind]

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash of the content of all of them, in order."""
        if self._files:
            return digest(*map(content_digest, self._files))
        return digest(*(self.media(row).content().hex() for row in range(len(self))))

    def name(self, row: int) -> str:
        """Its id, or the path of its file from the folder on."""
        if self._files:
            return str(self._files[row].relative_to(self.folder))
        record = self._record(row)
        return str(record.get("id", record["file"]))

    def caption(self, row: int) -> str:
        """Its first caption; "" for a file alone."""
        if self._files:
            return ""
        captions = self._record(row)["captions"]
        return captions if isinstance(captions, str) else str((captions or [""])[0])

    def _record(self, row: int) -> dict:
        try:
            return self._captioned[row]
        except (ValueError, KeyError) as error:
            raise UserError(f"{self._captioned.where(row)}: {error}") from None


def is_picture_corpus(place: str | Path) -> bool:
    """Whether a folder has captioned pictures or videos, or such files and no corpus of texts."""
    folder = Path(place).expanduser()
    if not folder.is_dir() or any(folder.glob("corpus.jsonl*")) or any(folder.rglob("*.arrow")):
        return False
    return _has_captions(folder) or bool(media_files(folder, (*ENDINGS, *VIDEO_ENDINGS)))


def media_files(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    """The files below a folder with one of the endings, in the order of their paths.

    Hidden files and folders are left out.

    Raises:
        UserError: if the folder is missing.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    files = (path for path in folder.rglob("*") if path.suffix.lower() in endings)
    shown = (
        p for p in files if not any(part.startswith(".") for part in p.relative_to(folder).parts)
    )
    return sorted(path for path in shown if path.is_file())


def _has_captions(folder: Path) -> bool:
    return any((folder / name).is_file() for name in CAPTIONS)
