"""The verbs of Store that read and maintain, and the parts that all verbs share; those that write are in store.py."""
