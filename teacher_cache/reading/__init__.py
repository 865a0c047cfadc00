"""From shards to rows by key."""
