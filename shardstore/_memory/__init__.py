"""The memory engine: a store that lives in one object, for tests of programs that use shardstore.

The same verbs, errors and values as in files: a mutex for each session, the nesting guard, history, the archive, lists.
Nothing is on disk, no other process sees it, and a forked child has a copy of its own.
"""

from shardstore._memory.engine import MemoryEngine

__all__ = ["MemoryEngine"]
