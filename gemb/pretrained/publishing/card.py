"""README.md of a saved folder: the model card that the Hugging Face hub shows and searches.

A card carries a mark with the checksum of its text: what a person wrote or edited is kept.
"""

import contextlib
import hashlib
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from gemb.files import atomic_file
from gemb.pretrained.publishing.facts import CARD, read_facts
from gemb.pretrained.publishing.text import card_text

_MARK = re.compile(r"<!-- Written by gemb, checksum (\w+)\. .*? -->\n")


def write_card(
    folder: Path,
    *,
    place: Path | None = None,
    base: Path | None = None,
    config: str = "",
    results: dict | None = None,
    commands: Sequence[str] = (),
) -> bool:
    """Writes the model card of a saved folder; one that a person wrote or edited stays as it is.

    Args:
        folder: what to describe, and where the card goes.
        place: where the folder will be, when it is still being written elsewhere.
        base: what the model was loaded from, where gemb.json does not name what it started from.
        config: the run's resolved config.gin.
        results: content of the run's results.json, see `gemb.evaluation.workdir`.
        commands: that made the folder, where it comes from no run.

    Returns:
        Whether the card was written.

    Raises:
        UserError: when the place cannot be written.
    """
    place = place or folder
    if (place / CARD).exists() and not is_ours(place / CARD):
        if place != folder:
            shutil.copyfile(place / CARD, folder / CARD)
        return False
    facts = read_facts(folder, base)
    text = _marked(card_text(facts, place, config=config, results=results, commands=commands))
    with atomic_file(folder / CARD) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return True


@contextlib.contextmanager
def with_card(folder: Path, place: Path, base: Path | None) -> Iterator[None]:
    """Writes the card of a folder when the block has written the rest, see `write_card`."""
    yield
    write_card(folder, place=place, base=base)


def is_ours(card: Path) -> bool:
    """Whether a card is as gemb wrote it: its mark is there, and the checksum is right."""
    text = card.read_text(encoding="utf-8", errors="replace")
    mark = _MARK.search(text)
    return mark is not None and mark[1] == _checksum(_MARK.sub("", text, count=1))


def _marked(text: str) -> str:
    """The text with the mark behind its metadata, which must come first."""
    end = text.index("\n---\n", 4) + len("\n---\n")
    mark = (
        f"<!-- Written by gemb, checksum {_checksum(text)}. gemb writes it again with new results, "
        "unless you change it. -->\n"
    )
    return text[:end] + mark + text[end:]


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
