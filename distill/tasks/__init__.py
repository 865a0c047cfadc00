"""Tasks: cards, raw rows, examples, splits and metrics. This wing does not import torch."""
