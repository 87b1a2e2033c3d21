"""Run some suites on every Python that the project claims and this machine has: `make test-versions`.

An interpreter is looked for in SHARDSTORE_PYTHONS (paths, as in PATH), in PATH by its name (python3.13), and among
pyenv's versions. What is not found is named. Each version gets a virtual environment of its own beside the usual one.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

VERSIONS = ("3.12", "3.13", "3.14")  # 3.11, the oldest, is what `make test` is for
SUITES = ("contract", "unit", "index", "evidence", "cli", "stress")
REPOSITORY = Path(__file__).resolve().parents[1]


def candidates(version: str) -> Iterator[str]:
    """Yield what may be an interpreter of this version, the wish of the caller first."""
    yield from filter(None, os.environ.get("SHARDSTORE_PYTHONS", "").split(os.pathsep))
    pyenv = shutil.which("pyenv")
    if pyenv is not None:
        root = subprocess.run([pyenv, "root"], capture_output=True, text=True, check=False).stdout.strip()
        yield from sorted(map(str, Path(root, "versions").glob(f"{version}.*/bin/python")), reverse=True)
    for directory in os.get_exec_path():
        yield str(Path(directory, f"python{version}"))


def version_of(interpreter: str) -> str | None:
    """Return the version that an interpreter says it has; None where it does not run."""
    script = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run([interpreter, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def find(version: str) -> str | None:
    """Return an interpreter of this version."""
    return next((path for path in candidates(version) if version_of(path) == version), None)


def run(version: str, interpreter: str, suites: list[str], workers: int) -> bool:
    """Run the suites on one version; return whether they passed."""
    venv = f".venv-{version}"
    make = ["make", "--no-print-directory", f"VENV={venv}", f"PYTHON={interpreter}", f"{venv}/.dev"]
    if subprocess.run(make, cwd=REPOSITORY, check=False).returncode != 0:
        return False
    pytest = [f"{venv}/bin/python", "-m", "pytest", "-q", "-n", str(workers), "--dist", "worksteal"]
    return (
        subprocess.run([*pytest, *(f"tests/{suite}" for suite in suites)], cwd=REPOSITORY, check=False).returncode == 0
    )


def main() -> int:
    """Run the suites on each version that is found; the exit status is 1 when any of them failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suites", nargs="*", help="directories below tests/")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    outcomes = {}
    for version in VERSIONS:
        interpreter = find(version)
        if interpreter is None:
            outcomes[version] = "not found"
            continue
        print(f"Python {version}: {interpreter}", flush=True)
        began = time.monotonic()
        passed = run(version, interpreter, options.suites or list(SUITES), options.workers)
        outcomes[version] = f"{'passed' if passed else 'FAILED'} in {time.monotonic() - began:.0f} s"
    for version, outcome in outcomes.items():
        print(f"Python {version}: {outcome}")
    return any(outcome.startswith("FAILED") for outcome in outcomes.values())


if __name__ == "__main__":
    sys.exit(main())
