"""Events of users and items: reading, splits, frequencies and histories; numpy only.

data = read_folder("debian_links")
split = splits.by_column(data)             # or random, last, by_time, cold_items
seen = histories.Histories(split.train, len(data.users.ids))
"""

from gemb.data.interactions.frequencies import StreamingFrequencies, counts, shares
from gemb.data.interactions.histories import Histories
from gemb.data.interactions.reading import (
    Columns,
    InteractionData,
    SideTable,
    read_events,
    read_folder,
    read_table,
)
from gemb.data.interactions.splits import Split

__all__ = [
    "Columns",
    "Histories",
    "InteractionData",
    "SideTable",
    "Split",
    "StreamingFrequencies",
    "counts",
    "read_events",
    "read_folder",
    "read_table",
    "shares",
]
