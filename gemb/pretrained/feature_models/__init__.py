"""Models over features: their folder, and the text models that they read as columns."""
