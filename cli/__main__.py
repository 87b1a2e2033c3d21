"""Run the command line with `python -m shardstore_cli`."""

from __future__ import annotations

from .main import main

if __name__ == "__main__":
    main()
