"""From prompts to shards: make a plan, draw pictures, store them in the spool, seal them into shards, encode them."""
