"""Report a failure to a person or a program: the error, the next step, the exit code."""

from __future__ import annotations

import errno
import io
import os
import pwd
import re
import sys
from typing import TYPE_CHECKING, Any, TextIO

import typer

from . import escape, exits, output
from .exits import CommandError

if TYPE_CHECKING:
    from shardstore.errors import LockTimeout, UnsafeStore

# What typer shows itself: BadParameter and its relatives. Their common base has no public name in every version.
_Usage: Any = typer.BadParameter.__mro__[2]
KINDS = {
    exits.ERROR: "error",
    exits.USAGE: "usage",
    exits.NO_SESSION: "no-session",
    exits.CONFLICT: "conflict",
    exits.CORRUPT: "damage",
    exits.NO_STORE: "no-store",
    exits.LOCKED: "locked",
    exits.INTERRUPTED: "interrupted",
}
# A URL in a wrong place of the command line is echoed by typer: its password reaches to its last @.
_PASSWORD = re.compile(r"(postgres(?:ql)?:/*[^\s:/@]*):\S*@", re.IGNORECASE)
_PURGE = "`shardstore archive purge --older-than 7d` (or --all) removes archived sessions"
_FREE = "`shardstore compact --dry-run` shows more space to free, `delete` and `prune --purge` remove sessions"


def report(error: Exception) -> int:
    """Report an error on stderr: lines for a person, with --json one line of JSON. Raises an unforeseen error again."""
    from shardstore.errors import ShardStoreError

    if isinstance(error, _Usage):
        return _report_usage(error)
    if not isinstance(error, (CommandError, ShardStoreError, OSError)):
        raise error
    _tell(describe(error))
    return describe(error).code


def warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning of the library, in the place of `warnings.showwarning`, which shows lines of code.

    Damaged sessions are left to damage.py, whose line names the commands to run.
    """
    from shardstore.errors import DamagedSessions

    if issubclass(category, DamagedSessions):
        return
    del category, filename, lineno, file, line
    output.message(f"Warning: {escape.text(str(message))}")


def _report_usage(error: Any) -> int:
    """Report a mistake on the command line as typer does, escaped."""
    if not json_wanted():
        shown = io.StringIO()
        error.show(file=shown)
        output.message(escape.lines(_without_password(shown.getvalue().rstrip("\n"))))
    else:
        context = getattr(error, "ctx", None)
        hint = f"`{context.command_path} --help`" if context else ""
        _tell(CommandError(error.format_message(), hint, code=error.exit_code))
    return int(error.exit_code)


def _tell(failure: CommandError) -> None:
    message, hint = escape.text(_without_password(failure.message)), escape.text(failure.hint)
    if json_wanted():
        error = {"code": failure.code, "kind": KINDS[failure.code], "message": message, "next": hint or None}
        return output.json_message({"error": error})
    output.message(f"Error: {message}")
    return output.message(f"Next: {hint}") if hint else None


def _without_password(text: str) -> str:
    return _PASSWORD.sub(r"\1:***@", text)


def json_wanted() -> bool:
    """Return whether --json was given, from the raw arguments: parsing them may have failed."""
    return "--json" in sys.argv[1:]


def describe(error: Exception) -> CommandError:
    """Turn an error of the library or the system into a message, the next step and an exit code."""
    from shardstore import errors

    if isinstance(error, CommandError):
        return error
    if isinstance(error, errors.LockTimeout):
        return _locked(error)
    if isinstance(error, errors.UnsafeStore):
        return _unsafe(error)
    return (_of_the_system(error) if isinstance(error, OSError) else None) or _in_its_own_words(error)


def _of_the_system(error: OSError) -> CommandError | None:
    """Explain an error of the system by its path, if that helps; else return None."""
    if in_the_way := _file_in_the_way(error):
        return _no_directory(in_the_way)
    if error.errno in (errno.EACCES, errno.EPERM):
        return _error(str(error), _who_may(error.filename))
    if error.errno == errno.EROFS:
        in_database = "://" in str(error.filename)
        there = "name the server that takes writes" if in_database else "mount the file system for writing"
        return _error(str(error), f"{there}; here `shardstore get`, `list` and `inspect` work")
    return None


def _in_its_own_words(error: Exception) -> CommandError:
    from shardstore import errors

    if isinstance(error, errors.SessionExists):  # its own advice names functions
        hint = "choose another key, or move that session away with `shardstore rename`"
        return _error(f"session {error.key!r} exists already", hint, code=exits.CONFLICT)
    if isinstance(error, errors.StoreNotFound):
        hint = "check --store and SHARDSTORE_PATH; set, patch, append, create-many and import create a store"
        return _error(f"no store at {error.root}", hint, code=exits.NO_STORE)
    code, hint = next((known for kind, known in _by_kind() if isinstance(error, kind)), (exits.ERROR, ""))
    return _error(str(error), hint, code=code)


def _error(message: str, hint: str = "", *, code: int = exits.ERROR) -> CommandError:
    return CommandError(escape.text(message), escape.text(hint), code=code)


def _by_kind() -> list[tuple[type[Exception] | tuple[type[Exception], ...], tuple[int, str]]]:
    """Pair the errors whose own message says enough with their exit code and the next step."""
    from shardstore import errors

    return [
        (errors.RevisionNotFound, (exits.NO_SESSION, "`shardstore history KEY` shows the revisions that are kept")),
        (errors.SessionNotFound, (exits.NO_SESSION, "`shardstore list --prefix ...` shows the keys")),
        (errors.StoreNotFound, (exits.NO_STORE, "")),
        (errors.StoreUnavailable, (exits.ERROR, "check the URL, and that the server runs: `shardstore doctor URL`")),
        (errors.Conflict, (exits.CONFLICT, "")),
        (errors.CorruptShard, (exits.CORRUPT, "")),
        ((errors.InvalidKey, errors.InvalidEntry, errors.InvalidQuery), (exits.USAGE, "")),
        (errors.StoreFull, (exits.ERROR, f"{_PURGE}; {_FREE}")),
    ]


def _locked(error: LockTimeout) -> CommandError:
    """Name the process that holds the lock, where the system tells."""
    from .holders import command_of

    command = command_of(error.pid) if error.pid and not error.holder else ""  # on another host it would be another's
    name = error.holder or error.pid
    owner = f"process {name}" if name else "a process the system does not name"
    owner += f" ({command})" if command else ""
    message = f"session {error.key!r} was locked for {error.waited:.1f} s by {owner}"
    return _error(message, "try again, or wait longer with --lock-timeout SECONDS", code=exits.LOCKED)


def _unsafe(error: UnsafeStore) -> CommandError:
    """Name the users who may use the store; advise --allow-shared only if it is open to others already."""
    owner = _owner(error.root)
    if owner is not None and owner != os.geteuid():
        return _error(f"{error.root} belongs to {_user(owner)}, not to {_user(os.geteuid())}", _as_owner(owner))
    hint = f"`chmod go-w {error.root}`, or if all of them may change it: `shardstore --allow-shared COMMAND ...`"
    return _error(f"{error.root} {error.reason}", hint)


def _as_owner(owner: int) -> str:
    return f"run it as {_user(owner)}; if both of you may change the store: `shardstore --allow-shared COMMAND ...`"


def _who_may(path: Any) -> str:
    """Return advice that names the owner of a refused path."""
    if isinstance(path, str) and "://" in path:
        return "`shardstore doctor URL` names the right that the user lacks"
    owner = _owner(path) if isinstance(path, str) else None
    if owner is None or owner == os.geteuid():
        return "check who may read and write there"
    return f"it belongs to {_user(owner)}; run this as {_user(owner)}"


def _owner(path: str) -> int | None:
    """Return the owner of a path, or of the nearest directory above it that can be looked at."""
    while True:
        try:
            return os.stat(path).st_uid
        except OSError:
            above = os.path.dirname(path)
            if above == path:
                return None
            path = above


def _user(number: int) -> str:
    try:
        return f"user {pwd.getpwuid(number).pw_name}"
    except KeyError:  # a container's user without a name
        return f"user {number}"


def _file_in_the_way(error: OSError) -> str | None:
    """Return the file that stands where the error wants a directory, or None."""
    path = os.fspath(error.filename or "") if isinstance(error.filename, (str, os.PathLike)) else ""
    if error.errno not in (errno.ENOTDIR, errno.EEXIST, errno.ENOENT) or not path:
        return None
    while path != os.path.dirname(path):
        if os.path.isfile(path):
            return path
        path = os.path.dirname(path)
    return None


def _no_directory(path: str) -> CommandError:
    hint = "a store is a directory: check --store and SHARDSTORE_PATH"
    if os.path.basename(path).endswith((".json", ".sqlite")):
        hint += f"; `shardstore import openclaw {path} --store DIRECTORY` reads such a file"
    return _error(f"{path} is a file, not a store", hint, code=exits.NO_STORE)
