"""TEMPORARY scan-only index by the lead; the index author replaces this file."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from typing import Any

from shardstore import codec
from shardstore.file import read_state
from shardstore.session import SessionInfo

Where = Mapping[str, Any]


class Index:
    def __init__(self, layout: Any, index_fields: Any) -> None:
        self.layout = layout

    def note(self, name: str) -> None:
        pass

    def rows(self, *, prefix=None, where=None, order_by="-updated_at", limit=None, offset=0, refresh=True):
        out = []
        for path in glob.glob(str(self.layout.shards) + "/*/*.jsonl"):
            s = read_state(path)
            if s.exists and (prefix is None or s.key.startswith(prefix)):
                f = {k: codec.loads(v) for k, v in s.fields.items() if len(v) <= 256}
                if where and any(f.get(k) != v for k, v in where.items()):
                    continue
                out.append(SessionInfo(s.key, s.rev, s.version, s.created_at, s.updated_at, s.size, codec.dumps(f)))
        out.sort(key=lambda r: r.key)
        if order_by.lstrip("-") == "updated_at":
            out.sort(key=lambda r: r.updated_at, reverse=order_by[0] == "-")
        return out[offset : None if limit is None else offset + limit]

    def count(self, *, prefix=None, where=None, refresh=True):
        return len(self.rows(prefix=prefix, where=where))

    def keys(self, *, refresh=True):
        return [r.key for r in self.rows()]

    def check(self, progress=None):
        return []

    def refresh(self):
        pass

    def rebuild(self, progress=None):
        pass

    def vacuum(self):
        return 0

    def close(self) -> None:
        pass

    def after_fork(self) -> None:
        pass
