"""Improves training data before training: verbs for files of pairs or documents.

It mines hard negatives, checks pairs for consistency, removes near-duplicates, and splits sets
without leaks. Everything streams over records by number, writes a report (`report.py`), and is
resumable. `gemb.data.sources` reads the formats and `gemb.search` searches.
"""

from gemb.curation.candidates import Choice
from gemb.curation.duplicates.deduplication import deduplicate
from gemb.curation.duplicates.near_duplicates import Likeness
from gemb.curation.filtering import filter_pairs
from gemb.curation.margin import Margin
from gemb.curation.mining import mine
from gemb.curation.splitting import split_records

__all__ = ["Choice", "Likeness", "Margin", "deduplicate", "filter_pairs", "mine", "split_records"]
