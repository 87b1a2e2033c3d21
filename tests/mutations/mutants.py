"""Make small mutants of chosen modules and print those that their tests do not notice: `make mutants`.

A mutant differs in one place: a comparison flipped, `and` for `or`, a number one larger, a call left out. Its tests run
in a copy of the checkout; a mutant is noticed when they fail or do not end in time. SURVIVORS.md lists the ones that
may survive, each with a reason; any other survivor makes the exit status 1.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[2]
SURVIVORS = Path(__file__).with_name("SURVIVORS.md")
TIME_LIMIT_S = 120

# What is mutated, and the tests that have to notice.
MODULES = {
    "_codec": ("unit/test_codec.py", "contract/test_entries.py"),
    "draft": ("unit/test_draft.py", "contract/test_update.py", "contract/test_noop.py"),
    "_journal/record": ("unit/test_record.py", "unit/test_replay.py"),
    "_journal/torn": ("unit/test_torn.py", "unit/test_replay.py"),
    "_files/disk": ("unit/test_disk.py",),
    "_files/layout": ("unit/test_layout.py",),
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


def mutants(module: str) -> Iterator[Mutant]:
    """Yield every mutant of a module."""
    tree = ast.parse((REPOSITORY / f"shardstore/{module}.py").read_text())
    for owner, field, place, node, function in list(places(tree, "module")):
        for other in changed(node):
            put(owner, field, place, ast.copy_location(other, node))
            name = f"{function}: {one_line(node)} -> {one_line(other)}"
            yield Mutant(module, name, node.lineno, ast.unparse(ast.fix_missing_locations(tree)))
            put(owner, field, place, node)


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


def is_noticed(mutant: Mutant, checkout: Path) -> bool:
    """Put a mutant into a copy of the checkout and return whether its tests fail there."""
    path = checkout / f"shardstore/{mutant.module}.py"
    original = path.read_text()
    tests = [f"tests/{test}" for test in MODULES[mutant.module]]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", *tests]
    path.write_text(mutant.source)
    try:
        environment = {**os.environ, "PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            command, cwd=checkout, env=environment, capture_output=True, timeout=TIME_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return True
    finally:
        path.write_text(original)
    return done.returncode != 0


def survivors(modules: list[str], workers: int) -> Iterator[Mutant]:
    """Run every mutant of some modules; yield those that nothing noticed. The tests must pass without one."""
    with tempfile.TemporaryDirectory(prefix="shardstore-mutants-") as base:
        checkouts: SimpleQueue[Path] = SimpleQueue()
        for number in range(workers):
            checkout = Path(base, str(number))
            for part in ("shardstore", "cli", "tests"):
                shutil.copytree(REPOSITORY / part, checkout / part, ignore=shutil.ignore_patterns("__pycache__"))
            shutil.copy(REPOSITORY / "pyproject.toml", checkout)
            checkouts.put(checkout)

        def noticed(mutant: Mutant) -> bool:
            checkout = checkouts.get()
            try:
                return is_noticed(mutant, checkout)
            finally:
                checkouts.put(checkout)

        with ThreadPoolExecutor(workers) as pool:
            for module in modules:
                same = Mutant(module, "", 0, (REPOSITORY / f"shardstore/{module}.py").read_text())
                if noticed(same):
                    raise SystemExit(f"the tests of {module} fail without a mutant")
                made = list(mutants(module))
                left = [mutant for mutant, seen in zip(made, pool.map(noticed, made), strict=True) if not seen]
                print(f"{module}: {len(left)} of {len(made)} mutants survived", flush=True)
                yield from left


def known() -> set[tuple[str, str]]:
    """Read SURVIVORS.md: a heading for each module, a line for each mutant that may survive."""
    module, found = "", set()
    for line in SURVIVORS.read_text().splitlines():
        if line.startswith("## "):
            module = line[3:]
        elif (match := re.match(r"- `(.+?)`: .", line)) is not None:
            found.add((module, match[1]))
    return found


def main() -> int:
    """Print the survivors that nobody has given a reason for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", help=f"some of {', '.join(MODULES)}")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    reasons = known()
    new = 0
    for one in survivors(options.modules or list(MODULES), options.workers):
        if one[:2] not in reasons:
            new += 1
            print(f"shardstore/{one.module}.py:{one.line}: {one.name}", flush=True)
    return bool(new)


if __name__ == "__main__":
    sys.exit(main())
