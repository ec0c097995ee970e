"""What a run needs before it starts: dry runs, and estimates for chips that are not here."""
