"""Published weights: where they come from, how their names map to ours, how folders are read."""
