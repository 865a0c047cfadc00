"""From prompts to shards: plan, draw, keep, seal, encode."""
