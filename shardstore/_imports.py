"""Imports that are made late, so that a program starts quickly: how they and a fork keep out of each other's way.

A child that is forked while another thread imports a module can never import that module: the import's lock belongs to
a thread that the child does not have. So whoever imports late holds `late_imports`, and a fork takes it first
(_files/engine.py). Nobody imports late while holding a lock that others wait for.
"""

from __future__ import annotations

import threading
from typing import Final

late_imports: Final = threading.RLock()  # re-entrant: an import may begin in the middle of another one
