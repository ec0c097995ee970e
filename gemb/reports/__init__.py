"""How a report looks: the bare HTML of a page, and drawings in its colours."""
