"""The index: its files, its protocol, its answers."""
