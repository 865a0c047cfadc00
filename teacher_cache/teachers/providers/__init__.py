"""Providers of pictures: their presets, the options that any server takes, asynchronous answers, litellm, prices in
words."""
