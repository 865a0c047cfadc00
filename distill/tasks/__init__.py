"""Tasks: cards, raw rows, examples, splits and metrics. Imports no torch."""
