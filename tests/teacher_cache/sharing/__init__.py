"""Tests of teacher_cache/sharing."""
