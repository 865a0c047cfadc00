"""The ledger of a study: what decided its numbers, by digest, so that others can check them and run it again."""
