"""The cache as a set of commits over a store."""
