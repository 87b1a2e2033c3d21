"""The command line of shardstore: one module a command, assembled by app.py; main.py is the entry.

Installed as `shardstore_cli`. Only this package imports typer and rich. Modules import each other relatively, and
heavy things (rich, the store) inside the functions that need them: `shardstore get` should cost little more than
starting Python.
"""
