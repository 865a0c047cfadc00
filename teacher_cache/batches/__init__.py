"""Batches: requests sent to a provider in files, at half the price, whose pictures come hours later."""
