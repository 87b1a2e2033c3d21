"""mypy and pyright accept a user's code, against the editable install and against the wheel, and refuse its mistakes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.test_package import wheel  # noqa: F401  # the fixture

USER_CODE = [Path(__file__).with_name(name) for name in ("user_code.py", "typed_code.py")]
MISTAKES = {"user_code.py": 10, "typed_code.py": 8}
STRICT = ("--strict", "--warn-unused-ignores", "--no-incremental", *MISTAKES)
TOOLS = Path(sys.executable).parent


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """Yield a directory with a user's code and nothing else: what the checkers know of the package is installed."""
    for path in USER_CODE:
        shutil.copy(path, tmp_path)
    yield tmp_path


def _run(tool: str, *args: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    if not (TOOLS / tool).exists():
        pytest.skip(f"{tool} is not installed beside this Python")
    path = f"{TOOLS}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [str(TOOLS / tool), *args],
        cwd=cwd,
        env={**os.environ, "PATH": path, "VIRTUAL_ENV": str(TOOLS.parent), **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def _unpacked(wheel: Path, elsewhere: Path) -> Path:
    site = elsewhere / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


def test_mypy_accepts_the_editable_install(elsewhere: Path) -> None:
    """In an editable install mypy finds the package, and every deliberate mistake is found: no ignore is unused."""
    done = _run("mypy", *STRICT, cwd=elsewhere)
    assert done.returncode == 0, done.stdout + done.stderr


def test_mypy_accepts_the_wheel(elsewhere: Path, wheel: Path) -> None:
    """The wheel carries its types."""
    site = _unpacked(wheel, elsewhere)
    done = _run("mypy", *STRICT[:4], cwd=elsewhere, MYPYPATH=str(site))
    assert done.returncode == 0, done.stdout + done.stderr


def test_pyright_refuses_the_same_mistakes(elsewhere: Path) -> None:
    """Without the ignores, pyright complains of the deliberate mistakes and of nothing else."""
    mistakes = set()
    for path in USER_CODE:
        lines = path.read_text().splitlines()
        made = {n for n, line in enumerate(lines) if "# type: ignore" in line and "no-untyped-def" not in line}
        assert len(made) == MISTAKES[path.name]
        mistakes |= {(path.name, n) for n in made}
        (elsewhere / path.name).write_text("\n".join(line.partition("  # type: ignore")[0] for line in lines))
    done = _run("pyright", "--outputjson", *MISTAKES, cwd=elsewhere)
    found = json.loads(done.stdout)["generalDiagnostics"]
    complained = {
        (Path(one["file"]).name, one["range"]["start"]["line"]) for one in found if one["severity"] == "error"
    }
    assert complained == mistakes, found


def test_every_public_symbol_has_a_known_type(elsewhere: Path) -> None:
    """pyright --verifytypes finds nothing that a checker would have to guess."""
    done = _run("pyright", "--verifytypes", "shardstore", "--ignoreexternal", cwd=elsewhere)
    score = re.search(r"Type completeness score: ([\d.]+)%", done.stdout)
    assert score is not None, done.stdout + done.stderr
    assert score[1] == "100", done.stdout
