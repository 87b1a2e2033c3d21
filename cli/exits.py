"""Exit codes, and what a person is told when something failed: the error, and what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shardstore.errors import LockTimeout

OK = 0
ERROR = 1
USAGE = 2
NO_SESSION = 3
CONFLICT = 4
CORRUPT = 5
NO_STORE = 10
LOCKED = 11
INTERRUPTED = 130  # 128 + SIGINT
PIPE_CLOSED = 141  # 128 + SIGPIPE: what shells show for every filter whose reader left


class CommandError(Exception):
    """An error of the command line's own. `message` and `hint` are for a person, `code` for the shell."""

    def __init__(self, message: str, hint: str = "", *, code: int = ERROR) -> None:
        super().__init__(message)
        self.message, self.hint, self.code = message, hint, code


def describe(error: Exception) -> CommandError:
    """Turn an error of the library or the system into a message, the next step and an exit code."""
    from shardstore import errors

    if isinstance(error, CommandError):
        return error
    if isinstance(error, errors.LockTimeout):
        return _locked(error)
    if isinstance(error, errors.SessionExists):
        return CommandError(f"session {_printable(error.key)!r} exists already", code=CONFLICT)
    if isinstance(error, errors.UnsafeStore):
        return CommandError(_printable(f"{error.root} {error.reason}"), _SHARED)
    code, hint = next((told for kind, told in _by_kind() if isinstance(error, kind)), (ERROR, ""))
    return CommandError(_printable(str(error)), hint, code=code)


_SHARED = "`chmod go-w` it, or if all of them may change it: `shardstore --allow-shared COMMAND ...`"


def _by_kind() -> list[tuple[type[Exception] | tuple[type[Exception], ...], tuple[int, str]]]:
    """Pair the errors whose own message says enough with their exit code and the next step."""
    from shardstore import errors

    return [
        (errors.SessionNotFound, (NO_SESSION, "`shardstore list --prefix ...` shows the keys there are")),
        (errors.StoreNotFound, (NO_STORE, "check --store and SHARDSTORE_PATH; set, patch and import make one")),
        (errors.Conflict, (CONFLICT, "")),
        (errors.CorruptShard, (CORRUPT, "")),
        ((errors.InvalidKey, errors.InvalidEntry, errors.InvalidQuery), (USAGE, "")),
        (errors.StoreFull, (ERROR, "free some space; `shardstore compact --dry-run` shows what it would give back")),
    ]


def _locked(error: LockTimeout) -> CommandError:
    """Name the process that holds the lock, where the system tells."""
    from .holders import command_of

    command = command_of(error.pid) if error.pid else ""
    owner = f"process {error.pid}" if error.pid else "a process the system does not name"
    owner += f" ({command})" if command else ""
    message = f"session {_printable(error.key)!r} was locked for {error.waited:.1f} s by {owner}"
    return CommandError(message, "try again, or wait longer with --lock-timeout SECONDS", code=LOCKED)


def _printable(text: str) -> str:
    """Escape what could steer a terminal: keys and paths are other people's text."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
