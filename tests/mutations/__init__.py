"""Proof that the protecting tests can fail."""
