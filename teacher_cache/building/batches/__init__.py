"""Builds whose teacher sends batches."""
