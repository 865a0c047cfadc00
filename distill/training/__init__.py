"""Training: loop, steps, several processes, checkpoints, metrics log, and a model for transformers' Trainer."""
