"""What a student learns from: losses, the aligner, its kept states and each epoch's targets."""
