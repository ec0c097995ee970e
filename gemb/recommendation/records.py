"""Users and items as lines of text for `gemb release`: each text is the JSON of a record."""

import json
from pathlib import Path

from gemb.files import atomic_file
from gemb.processors.features import FeaturesProcessor
from gemb.recommendation.links import Links
from gemb.structs import SIDES

FILES = {"query": "users.jsonl", "document": "items.jsonl"}


def write_records(processor: FeaturesProcessor, links: Links, folder: str | Path) -> dict[str, int]:
    """Writes what a model reads of all users and items: {"_id", "text"}, the text a JSON object.

    Args:
        processor: of the model.
        links: the tables, and the training events, which are the histories.
        folder: where users.jsonl and items.jsonl go, each whole or not at all.

    Returns:
        File name -> records.

    Raises:
        UserError: a column that the tables lack, or a file that cannot be written.
    """
    written = {}
    Path(folder).mkdir(parents=True, exist_ok=True)
    for side in SIDES:
        names = list(dict.fromkeys(column.entry for column in getattr(processor, side)))
        ids = (links.data.users if side == "query" else links.data.items).ids
        records = links.records(side, names)
        path = Path(folder) / FILES[side]
        with atomic_file(path) as temporary, open(temporary, "w", encoding="utf-8") as out:
            for name, record in zip(ids, records, strict=True):
                text = json.dumps(record, ensure_ascii=False, default=str)
                out.write(json.dumps({"_id": name, "text": text}, ensure_ascii=False) + "\n")
        written[FILES[side]] = len(ids)
    return written
