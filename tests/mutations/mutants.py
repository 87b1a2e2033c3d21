"""Small mutants of chosen modules. `make mutants` runs them (hunt.py), and prints those that no test notices.

A mutant differs in one place: a comparison flipped, `and` for `or`, a number one larger, a call left out. SURVIVORS.md
lists the ones that may survive, each with a reason.
"""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[2]
SURVIVORS = Path(__file__).with_name("SURVIVORS.md")

# What is mutated, and the tests that have to notice.
_CONTRACT = tuple(
    f"contract/test_{name}.py" for name in ("update", "create", "noop", "replace_delete", "history", "reads")
)
_LOGS = (
    "contract/test_log.py",
    "contract/test_log_draft.py",
    "contract/test_log_moves.py",
    "inputs/test_damaged_logs.py",
)
MODULES = {
    "_codec": ("unit/test_codec.py",),
    "draft": ("unit/test_draft.py",),
    "_row": ("unit/test_row.py", "unit/test_session.py", "index/test_rows.py"),
    "_answers": ("index/test_views.py", "index/test_indexed.py", "contract/test_query.py"),
    "_journal/record": ("unit/test_record.py", "unit/test_replay.py", "unit/test_log_values.py", "unit/test_codec.py"),
    "_journal/replay": ("unit/test_replay.py", "unit/test_record.py", "unit/test_log_values.py"),
    "_journal/torn": ("unit/test_torn.py", "unit/test_replay.py"),
    "_files/disk": ("unit/test_disk.py",),
    "_files/layout": ("unit/test_layout.py",),
    "_files/file": ("unit/test_file.py", "unit/test_shard.py"),
    "_files/shard": ("unit/test_shard.py", "unit/test_transaction.py", "unit/test_pool.py", "unit/test_events.py"),
    "_files/locked": (
        "unit/test_locked.py",
        "unit/test_locked_moves.py",
        "unit/test_transaction.py",
        "unit/test_batch.py",
        "unit/test_events.py",
        "unit/maintenance/test_archive.py",
        "unit/maintenance/test_repair.py",
        "contract/test_log_moves.py",
        "contract/test_retention.py",
    ),
    "_files/transaction": (
        "unit/test_transaction.py",
        "unit/test_commits.py",
        "unit/test_batch.py",
        "unit/test_shard.py",
        "unit/test_events.py",
        "contract/test_update.py",
    ),
    "_files/pool": ("unit/test_pool.py", "unit/test_shard.py", "unit/test_files_engine.py"),
    "_files/locks/flock": ("unit/test_flock.py", "unit/test_fairness.py", "unit/test_waiter.py"),
    "_files/locks/fairness": ("unit/test_fairness.py",),
    "_files/change_file/file": ("index/test_changes.py", "index/test_tracker.py", "index/test_refresh.py"),
    "_files/change_file/tracker": ("index/test_tracker.py", "index/test_changes.py", "index/test_deviations.py"),
    "_files/index/directories": ("index/test_directories.py",),
    "_files/index/rebuild": (
        "index/test_rebuild.py",
        "index/test_refresh.py",
        "index/test_lister.py",
        "index/test_views.py",
        "index/test_place.py",
        "index/test_damage.py",
        "index/test_forking.py",
        "index/test_deviations.py",
        "unit/test_events.py",
        "unit/test_otel.py",
    ),
    "_files/index/lister": (
        "index/test_lister.py",
        "index/test_views.py",
        "index/test_refresh.py",
        "index/test_rebuild.py",
        "index/test_progress.py",
        "index/test_indexed.py",
        "index/test_damage.py",
        "index/test_interrupted.py",
        "index/test_deviations.py",
    ),
    "_files/index/views": ("index/test_views.py", "index/test_indexed.py", "index/test_lister.py"),
    "_files/index/catalog": (
        "index/test_catalog.py",
        "index/test_sql.py",
        "index/test_indexed.py",
        "index/test_audit.py",
        "index/test_refresh.py",
        "index/test_rebuild.py",
        "index/test_upkeep.py",
        "index/test_forking.py",
        "index/test_views.py",
        "index/test_damage.py",
    ),
    "_files/direct/shards": (
        "index/test_shards.py",
        "index/test_refresh.py",
        "index/test_damage.py",
        "index/test_deviations.py",
    ),
    "_files/index/refresh": (
        "index/test_refresh.py",
        "index/test_rebuild.py",
        "index/test_deviations.py",
        "index/test_indexed.py",
        "index/test_directories.py",
    ),
}

FLIPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.And: ast.Or, ast.Or: ast.And, ast.Add: ast.Sub, ast.Sub: ast.Add, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
}  # fmt: skip


class Mutant(NamedTuple):
    """One changed module."""

    module: str
    name: str  # function: `old` -> `new`, which stays the same when lines move
    line: int
    last_line: int
    source: str


def changed(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what may stand in the place of a node; the node itself is left as it is."""
    other = copy.deepcopy(node)
    if isinstance(other, ast.Compare):
        for number, operator in enumerate(other.ops):
            one = copy.deepcopy(other)
            one.ops[number] = FLIPS[type(operator)]()  # type: ignore[call-overload]
            yield one
    elif isinstance(other, ast.BoolOp | ast.BinOp) and type(other.op) in FLIPS:
        other.op = FLIPS[type(other.op)]()  # type: ignore[assignment]
        yield other
    elif isinstance(other, ast.UnaryOp) and isinstance(other.op, ast.Not):
        yield other.operand
    elif isinstance(other, ast.Constant) and type(other.value) in (bool, int):
        other.value = not other.value if isinstance(other.value, bool) else other.value + 1  # type: ignore[operator]
        yield other
    elif isinstance(other, ast.Expr) and isinstance(other.value, ast.Call):
        yield ast.Pass()


def mutants(module: str, every: int = 1) -> Iterator[Mutant]:
    """Yield every mutant of a module, or each so many."""
    tree = ast.parse((REPOSITORY / f"shardstore/{module}.py").read_text())
    for number, (name, node, place, other) in enumerate(changes(tree)):
        if number % every == 0:
            put(*place, ast.copy_location(other, node))
            source = ast.unparse(ast.fix_missing_locations(tree))
            put(*place, node)
            yield Mutant(module, name, node.lineno, node.end_lineno or node.lineno, source)


def names(module: str) -> set[str]:
    """Return the names of a module's mutants, without making them."""
    tree = ast.parse((REPOSITORY / f"shardstore/{module}.py").read_text())
    return {name for name, *_ in changes(tree)}


Place = tuple[ast.AST, str, int | None]


def changes(tree: ast.AST) -> Iterator[tuple[str, ast.stmt | ast.expr, Place, ast.AST]]:
    """Yield each change of a module: its name, the node, where that hangs, and what may stand there."""
    for owner, field, place, node, function in list(places(tree, "module")):
        for other in changed(node):
            yield f"{function}: {one_line(node)} -> {one_line(other)}", node, (owner, field, place), other


def places(tree: ast.AST, function: str) -> Iterator[tuple[ast.AST, str, int | None, ast.stmt | ast.expr, str]]:
    """Yield each node that runs with where it hangs: owner, field, place in a list, and the function around it."""
    for field, value in ast.iter_fields(tree):
        if field in ("annotation", "returns", "type_comment"):
            continue
        for place, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(node, ast.AST) or (isinstance(node, ast.If) and one_line(node.test) == "TYPE_CHECKING"):
                continue
            inner = f"{function}.{node.name}" if isinstance(node, ast.FunctionDef | ast.ClassDef) else function
            if isinstance(node, ast.stmt | ast.expr):
                yield tree, field, place, node, inner.removeprefix("module.")
            yield from places(node, inner)


def put(owner: ast.AST, field: str, place: int | None, node: ast.AST) -> None:
    """Hang a node where `places` found one."""
    if place is None:
        setattr(owner, field, node)
    else:
        getattr(owner, field)[place] = node


def one_line(node: ast.AST) -> str:
    """Return a node's source in one line."""
    return re.sub(r"\s+", " ", ast.unparse(node))


def known() -> set[tuple[str, str]]:
    """Read SURVIVORS.md: a heading for each module, a line for each mutant that may survive."""
    module, found = "", set()
    for line in SURVIVORS.read_text().splitlines():
        if line.startswith("## "):
            module = line[3:]
        elif (match := re.match(r"- `(.+?)`: .", line)) is not None:
            found.add((module, match[1]))
    return found
