"""The pilot: whether a teacher is worth paying for, from a few hundred pictures."""
