"""From the text of a spec to its adapter, and where pretrained weights and packages are found."""
