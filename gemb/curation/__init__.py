"""Making training data better before training: verbs over files of pairs or documents.

Hard negatives are mined, pairs checked for consistency, near-duplicates removed, sets split without
leaks. Everything streams over records by number, leaves a report (`report.py`), and goes on where
it was stopped. Reading formats is `gemb.data.sources`', searching `gemb.search`'s affair.
"""

from gemb.curation.candidates import Choice
from gemb.curation.duplicates.deduplication import deduplicate
from gemb.curation.duplicates.near_duplicates import Likeness
from gemb.curation.filtering import filter_pairs
from gemb.curation.margin import Margin
from gemb.curation.mining import mine
from gemb.curation.splitting import split_records

__all__ = ["Choice", "Likeness", "Margin", "deduplicate", "filter_pairs", "mine", "split_records"]
