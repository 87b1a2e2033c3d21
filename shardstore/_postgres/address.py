"""The URL of a store in a database: our parts, libpq's parts, and the parts that may be shown."""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import unquote

HOLD_TIMEOUT_S: Final = 60.0  # seconds that a session may be held by a client that does nothing
SCHEMA: Final = "shardstore"
_NAME: Final = re.compile("(?!pg_)[a-z_][a-z0-9_]{0,62}")
_OURS: Final = ("schema", "hold_timeout")
_SECRETS: Final = (
    "password", "sslpassword", "passfile", "oauth_client_secret", "scram_client_key", "scram_server_key",
)  # fmt: skip
ENCODE: Final = "in a user, password or parameter, write / as %2F, ? as %3F, @ as %40, & as %26, % as %25"
_SECONDS_MAX: Final = 2_147_483  # the server counts milliseconds in 32 bits


class Address(NamedTuple):
    """Where a store is."""

    url: str  # libpq's
    schema: str
    hold_timeout: float  # seconds; 0: for ever
    location: str  # for people: no password
    secrets: tuple[str, ...]  # what no message may hold

    def scrub(self, text: str) -> str:
        """Return a message of libpq or the server without the password."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text

    def __repr__(self) -> str:
        """Return what may be shown."""
        return f"Address({self.location!r})"


def parse(url: str) -> Address:
    """Understand a URL. Raises ValueError, which never holds a password."""
    if _is_ambiguous(url):
        raise ValueError(f"it is not clear where the password of this URL ends; {ENCODE}")
    base, _, query = url.partition("?")
    parts = [part for part in query.split("&") if part]
    if any("=" not in part for part in parts):
        raise ValueError(f"a parameter of the URL is NAME=VALUE, and one has no =; {ENCODE}")
    ours = {name: unquote(value) for name, _, value in (part.partition("=") for part in parts) if name in _OURS}
    libpq = [part for part in parts if part.partition("=")[0] not in _OURS]
    shown = [part for part in libpq if not _is_secret(part)]
    schema = ours.get("schema", SCHEMA)
    if not _NAME.fullmatch(schema):
        form = "a name of a-z, 0-9 and _, up to 63 long, not beginning with a digit or pg_"
        raise ValueError(f"schema is {form}; not {schema!r}")
    return Address(
        _joined(base, libpq),
        schema,
        _seconds(ours.get("hold_timeout")),
        _joined(_public(base), [*shown, f"schema={schema}"]),
        _secrets(base, libpq),
    )


def _is_ambiguous(url: str) -> bool:
    """Return whether a password may reach further than libpq thinks: its tail would be shown as a host or a path."""
    rest = url.partition("://")[2]
    before = rest.rpartition("@")[0]
    return ":" in before and any(mark in before for mark in "/?@")


def _is_secret(part: str) -> bool:
    return unquote(part.partition("=")[0]) in _SECRETS  # libpq decodes names, too


def _joined(base: str, parts: list[str]) -> str:
    return base + ("?" + "&".join(parts) if parts else "")


def _seconds(text: str | None) -> float:
    try:
        value = HOLD_TIMEOUT_S if text is None else float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= _SECONDS_MAX:
        raise ValueError(f"hold_timeout is a number of seconds from 0 (for ever) to {_SECONDS_MAX}, not {text!r}")
    return value


def _split(base: str) -> tuple[str, str, str]:
    """Return the text before the user, the user with the password, and the text after the @."""
    scheme, _, rest = base.partition("://")
    authority, slash, path = rest.partition("/")
    user, at, hosts = authority.rpartition("@")
    return f"{scheme}://", user, f"{at}{hosts}{slash}{path}"


def _public(base: str) -> str:
    before, user, behind = _split(base)
    return before + user.partition(":")[0] + behind


def _secrets(base: str, parts: list[str]) -> tuple[str, ...]:
    found = [_split(base)[1].partition(":")[2]]
    found += [part.partition("=")[2] for part in parts if _is_secret(part)]
    return tuple(dict.fromkeys(spelled for raw in found if raw for spelled in (raw, unquote(raw))))
