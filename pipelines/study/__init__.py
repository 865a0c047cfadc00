"""Studies: a fixed file, its runs, their statistics and the report."""
