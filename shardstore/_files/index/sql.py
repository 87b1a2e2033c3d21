"""How SQLite writes conditions on the table `session` of a catalog: columns i0, i1 ... hold sort keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from shardstore._conditions import Dialect, Term, behind_prefix

if TYPE_CHECKING:
    from collections.abc import Iterable


class _Sqlite(Dialect):
    bounds = ("updated>=?", "updated<?", "size>?")
    needle = "instr(packed,?)"
    cut = "(cut IS NOT NULL AND (cut=? OR instr(cut,?)))"
    null = "NULL"

    def column(self, n: int) -> str:
        return f"i{n}"

    def prefixed(self, prefix: str) -> list[Term]:
        after = behind_prefix(prefix)
        terms = [Term("key>=?", (prefix,))] if prefix else []
        return terms if after is None else [*terms, Term("key<?", (after,))]

    def compared(self, column: str, operator: str, key: bytes) -> list[Term]:
        return [Term(f"{column}{operator}?", (key,))]

    def differs(self, column: str, key: bytes) -> Term:
        return Term(f"{column} IS NOT ?", (key,))

    def among(self, column: str, keys: list[bytes]) -> list[Term]:
        return [Term(f"{column} IN ({','.join('?' * len(keys))})", tuple(keys))]

    def behind_key(self, key: str, beyond: str) -> tuple[Term, ...]:
        return (Term(f"key{beyond}?", (key,)),)

    def behind(self, column: str, beyond: str, position: Any, key: str) -> tuple[Term, ...]:
        tie = Term(f"({column}{beyond}? OR key>?)", (position, key))
        return (Term(f"{column}{beyond}=?", (position,)), tie)

    def by_key(self, way: str = "") -> str:
        return f"key{way}"

    def by_column(self, column: str, way: str) -> str:
        return f"{column}{way},key"


SQLITE: Final = _Sqlite()


def where(terms: Iterable[Term]) -> tuple[str, list[Any]]:
    """Return the WHERE clause and its values."""
    listed = list(terms)
    clause = " WHERE " + " AND ".join(term.sql for term in listed) if listed else ""
    return clause, [value for term in listed for value in term.values]
