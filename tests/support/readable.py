"""A copy of the checkout for a process that becomes another user, who may not be able to enter the checkout itself.

Permission bits do not bind root, so some tests give root up and import the store after that. A checkout below a
directory of mode 0700, its virtual environment and an interpreter installed there can then not be read any more.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

from tests.support.peer import REPOSITORY

OWN = ("shardstore", "tests")
RUNTIME = ("filelock", "orjson")  # what shardstore imports
_LEFT_OUT = shutil.ignore_patterns("site-packages", "test", "idlelib", "tkinter", "config-*", "corpus")


class ReadableCopy:
    """A directory that every user can import from: run there, with `environment()`."""

    def __init__(self, place: Path) -> None:
        """Copy the checkout's packages, and what they import, into `place`."""
        self.place = place
        place.chmod(0o755)
        for package in OWN:
            shutil.copytree(REPOSITORY / package, place / package, ignore=_LEFT_OUT)
        for package in RUNTIME:
            spec = importlib.util.find_spec(package)
            assert spec is not None
            assert spec.submodule_search_locations, f"{package} is not a directory that can be copied"
            shutil.copytree(spec.submodule_search_locations[0], place / package, ignore=_LEFT_OUT)
        self._paths = [place, *self._standard_library()]
        _open_to_all(place)

    def environment(self) -> dict[str, str]:
        """Return what the environment of the process that becomes another user needs on top of this one's."""
        return {"PYTHONPATH": os.pathsep.join(map(str, self._paths)), "PYTHONDONTWRITEBYTECODE": "1"}

    def _standard_library(self) -> list[Path]:
        """Return where to import the standard library from: a copy, where others cannot read the interpreter's."""
        library = Path(os.__file__).resolve().parent
        if all(directory.stat().st_mode & 0o5 == 0o5 for directory in (library, *library.parents)):
            return []
        copy = self.place / "standard-library"
        shutil.copytree(library, copy, ignore=_LEFT_OUT)
        return [copy, copy / "lib-dynload"]


def _open_to_all(place: Path) -> None:
    for directory, _, files in os.walk(place):
        os.chmod(directory, 0o755)
        for name in files:
            os.chmod(os.path.join(directory, name), 0o644)
