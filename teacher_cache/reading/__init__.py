"""From shards to rows: find features by key, decoded once per machine and checked at every access."""
