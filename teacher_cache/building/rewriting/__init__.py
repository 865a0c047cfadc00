"""Rewriting in a build: which texts a rewriter has to rewrite, and doing it, before their pictures are drawn."""
