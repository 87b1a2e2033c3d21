"""The change file: writers name there each session that they are about to change; lists and watchers read it."""
