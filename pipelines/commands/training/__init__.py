"""The commands that train a student: `train` and `pretrain`, and the table of their options."""
