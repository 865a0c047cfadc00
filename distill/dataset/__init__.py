"""Training rows joined with their features, and the loader that reads them in batches."""
