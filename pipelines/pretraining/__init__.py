"""Pre-training: a student learns from texts and the features of their pictures, without labels."""
