"""The programs over both stages: command line, training runs, demo, studies and gallery."""
