"""How PostgreSQL writes conditions on the table `session`.

Sort keys of indexed fields stand in the array `keys`. They may be long, so an index holds how they begin: a condition
names the beginning, for the index, and the whole, which decides. Keys are treated the same way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from shardstore._conditions import Dialect, Term, behind_prefix
from shardstore._postgres.schema import PREFIX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shardstore._postgres.values import Value

_KEY: Final = f"left(key, {PREFIX})"  # the part of a key that stands in an index


class _Postgres(Dialect):
    """Each value stands as %s, with its type behind it."""

    bounds = ("updated >= %s::bigint", "updated < %s::bigint", "size > %s::bigint")
    needle = "position(%s::bytea IN fields) > 0"
    cut = "(cut IS NOT NULL AND (cut = %s::bytea OR position(%s::bytea IN cut) > 0))"
    null = "NULL::bytea"

    def column(self, n: int) -> str:
        return f"keys[{n + 1}]"

    def start(self, column: str) -> str:
        return f"substr({column}, 1, {PREFIX})"

    def prefixed(self, prefix: str) -> list[Term]:
        short = prefix[:PREFIX]
        after, terms = behind_prefix(short), [Term("live")]
        if prefix:
            terms.append(Term(f"{_KEY} >= %s::text", (short,)))
        if after is not None:
            terms.append(Term(f"{_KEY} < %s::text", (after,)))
        if len(prefix) > PREFIX:
            terms.append(Term("starts_with(key, %s::text)", (prefix,)))
        return terms

    def compared(self, column: str, operator: str, key: bytes) -> list[Term]:
        loose = {"<": "<=", ">": ">="}.get(operator, operator)
        return [
            Term(f"{self.start(column)} {loose} %s::bytea", (key[:PREFIX],)),
            Term(f"{column} {operator} %s::bytea", (key,)),
        ]

    def differs(self, column: str, key: bytes) -> Term:
        return Term(f"{column} IS DISTINCT FROM %s::bytea", (key,))

    def among(self, column: str, keys: list[bytes]) -> list[Term]:
        return [
            Term(f"{self.start(column)} = ANY (%s::bytea[])", ([key[:PREFIX] for key in keys],)),
            Term(f"{column} = ANY (%s::bytea[])", (keys,)),
        ]

    def behind_key(self, key: str, beyond: str) -> tuple[Term, ...]:
        return (Term(f"{_KEY} {beyond}= %s::text", (key[:PREFIX],)), Term(f"key {beyond} %s::text", (key,)))

    def behind(self, column: str, beyond: str, position: Any, key: str) -> tuple[Term, ...]:
        if type(position) is bytes:
            tie = Term(f"({column} {beyond} %s::bytea OR key > %s::text)", (position, key))
            return (*self.compared(column, f"{beyond}=", position), tie)
        tie = Term(f"({column} {beyond} %s::bigint OR key > %s::text)", (position, key))
        return (Term(f"{column} {beyond}= %s::bigint", (position,)), tie)

    def by_key(self, way: str = "") -> str:
        return f"{_KEY}{way}, key{way}"

    def by_column(self, column: str, way: str) -> str:
        start = f"{self.start(column)}{way}, " if column.startswith("keys[") else ""
        return f"{start}{column}{way}, key"


POSTGRES: Final = _Postgres()


def statement(head: str, terms: Sequence[Term], tail: str = "") -> tuple[str, list[Value]]:
    """Return a statement and its values: each %s becomes $1, $2 ..."""
    clause = " AND ".join(term.sql for term in terms)
    pieces = f"{head} WHERE {clause} {tail}".split("%s")
    numbered = "".join(piece + (f"${n}" if n < len(pieces) else "") for n, piece in enumerate(pieces, 1))
    return numbered, [value for term in terms for value in term.values]
