"""Sharing by a team: push, pull and sync of caches between folders, object stores and the Hugging Face Hub."""
