"""Maintenance of a cache: verify, repair, recompute, compact, merge, export and status."""
