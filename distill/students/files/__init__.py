"""What a student is before it is loaded: its files, its identity, its architecture and its tokenizer."""
