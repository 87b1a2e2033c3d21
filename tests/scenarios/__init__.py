"""Scenarios that a test runs and that a mutation must make fail."""
