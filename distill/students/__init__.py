"""Students: loading, heads, pooling, generation, evaluation and export."""
