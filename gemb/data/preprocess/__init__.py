"""Pure functions from records to pairs, and from token ids to masked ones. numpy alone."""
