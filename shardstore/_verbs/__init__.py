"""The verbs of Store that read and maintain, and what all verbs share; those that write stand in store.py."""
