"""Exit codes, and the error of the command line's own."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


@contextmanager
def interruptible(hint: str, so_far: Callable[[], str] = str) -> Iterator[None]:
    """Turn Ctrl-C into an error that says how far the command came, `so_far`, and how to go on, `hint`."""
    try:
        yield
    except KeyboardInterrupt:
        done = so_far()
        raise CommandError(f"interrupted; {done}" if done else "interrupted", hint, code=INTERRUPTED) from None
