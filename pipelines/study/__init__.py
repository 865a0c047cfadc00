"""Studies: a file that is fixed beforehand, its runs, their statistics and the report."""
