"""The commands `armada cache ...`, stage one."""
