"""The gallery: web pages of a cache's prompts and pictures, served or exported."""
