"""The training rows joined with their features, and the loader over them."""
