"""Texts that are the same or nearly so: by normalised text, by words, in clusters."""
