"""Upkeep of a cache: verify, repair, recompute, compact, merge, export, status."""
