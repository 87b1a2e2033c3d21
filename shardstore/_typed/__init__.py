"""Typed sessions: from the fields of a session to a model, and back. Each kind of model has a module of its own."""
