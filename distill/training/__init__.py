"""The training loop: steps, ranks, checkpoints, the metrics log and the Trainer wrapper."""
