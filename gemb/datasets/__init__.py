"""Data that is made on the user's machine."""
