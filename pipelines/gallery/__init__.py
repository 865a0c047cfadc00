"""The gallery: prompts and pictures of a cache, served or exported."""
