"""Task cards: what a task is, in one YAML file, and how such a file is found, read and checked."""
