"""Files: atomic writes, a store over a folder or an fsspec URL, and the folders of this user."""
