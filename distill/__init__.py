"""Stage two: train a text-only student on its task and on a cache's features. No teacher is called."""
