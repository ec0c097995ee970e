"""Texts to embed: any file that training reads, by number, in any process."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gemb.curation import inputs
from gemb.curation.duplicates.deduplication import texts_of_columns
from gemb.curation.tables import Texts
from gemb.data.preprocess.texts import titled_text


class Source(NamedTuple):
    """Where texts are.

    Attributes:
        place: a file of texts, or a BEIR folder.
        column: of the text; "text" has the title in front.
        max_bad_fraction: share of broken records to leave out.
    """

    place: str
    column: str = "text"
    max_bad_fraction: float = 0.0

    def read(self) -> tuple[Iterator[str | int], Sequence[str]]:
        """Ids, and texts by number, read from disk.

        Raises:
            UserError: naming file and line.
        """
        limit = self.max_bad_fraction
        if self.column == "text":
            records = inputs.read_corpus(self.place, max_bad_fraction=limit)
            texts = Texts(len(records), lambda row: titled_text(records[row]))
        else:
            records = inputs.read_texts(self.place, [self.column], max_bad_fraction=limit)
            texts = texts_of_columns(records, [self.column])
        return (records[row].get("_id", row) for row in range(len(records))), texts
