"""The objective of distillation: losses, the aligner and its stored states, and the targets of each epoch."""
