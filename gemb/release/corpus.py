"""The records of a set of vectors: read, compared by a digest, kept next to their vectors."""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

from gemb.data.preprocess.texts import untitled
from gemb.data.sources import corpora
from gemb.files import atomic_file

FILE = "corpus.jsonl"


class Corpus(NamedTuple):
    """Records with a text each.

    Attributes:
        ids: unique.
        texts: what is encoded, the title in front.
        rows: what else the records hold.
        place: where they were read.
    """

    ids: list[str]
    texts: list[str]
    rows: list[dict]
    place: str

    @classmethod
    def read(cls, place: str) -> "Corpus":
        """Reads what `gemb index --corpus` reads.

        Raises:
            UserError: naming file and line.
        """
        return cls(*corpora.read_corpus(place), place)

    def digest(self) -> str:
        """32 hexadecimal digits of everything in the records, order included."""
        made = hashlib.blake2b(digest_size=16)
        for line in self._lines():
            made.update(line.encode(errors="surrogatepass"))
        return made.hexdigest()

    def write(self, folder: Path) -> None:
        """Writes FOLDER/corpus.jsonl, from which `gemb index` and searches read the same."""
        with atomic_file(folder / FILE) as temporary, open(temporary, "w", encoding="utf-8") as out:
            out.writelines(self._lines())

    def _lines(self):
        for each, text, row in zip(self.ids, self.texts, self.rows, strict=True):
            record = {"_id": each, "text": untitled(text, row)} | row
            yield json.dumps(record, ensure_ascii=False, default=str) + "\n"
