"""Students: loading, added heads, pooled outputs, generation, evaluation and export."""
