"""Specs and the adapters that they name, and where pretrained weights and installed packages are found."""
