"""Storage: a cache as a set of commits in a store, and what is read from it and written to it."""
