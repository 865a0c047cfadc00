"""One training run: from its request to its exported student and record."""
