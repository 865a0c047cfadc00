"""The bytes on disk: Arrow helpers, shards, commits, and the sources that a cache records."""
