"""The on-disk format: Arrow helpers, shards, commits, and the sources that a cache records."""
