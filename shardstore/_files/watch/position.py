"""Where a watcher of a store in files is: a place in the change file, and the sessions that may change unmarked."""

from __future__ import annotations

import base64
import re
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, NamedTuple

from shardstore import _codec as codec
from shardstore._files.layout import is_shard_name
from shardstore.errors import WatchExpired

if TYPE_CHECKING:
    from shardstore._files.index.place import Place

GONE: Final = "gone"  # seen of a session of which nothing is left
BRIEF: Final = "brief"  # seen of a session that was absent, and then there for a while
_FILE: Final = "changes."
_TOKEN: Final = re.compile(
    r"(?P<file>[0-9a-f]{16})\.(?P<place>\d{1,15})\.(?P<life>[0-9a-f]{12})(\.(?P<waiting>[\w=-]+))?", re.ASCII
)


class Known(NamedTuple):
    """What a watcher knows of a session that may have changed."""

    key: str  # empty where it is not known
    seen: str  # as by `seen_of`, or UNKNOWN, GONE, BRIEF


NOTHING: Final = Known("", GONE)


class Position(NamedTuple):
    """Where a watcher is. Every commit that it has not seen was marked behind the place, or is of `waiting`."""

    file: str  # the name of the change file
    place: int  # in it, where a line begins
    waiting: dict[str, Known]  # by the name of the shard

    def token(self, life: str) -> str:
        """Return it as a text."""
        text = f"{self.file.removeprefix(_FILE)}.{self.place}.{life}"
        if not self.waiting:
            return text
        waiting = codec.dumps({name: [*known] for name, known in self.waiting.items()})
        return f"{text}.{base64.urlsafe_b64encode(waiting).decode()}"


def parse(token: str, life: str) -> Position:
    """Return the position that a token is of. Raises WatchExpired."""
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise WatchExpired("this is no token of this store")
    if match["life"] != life:
        raise WatchExpired("the index was deleted, or the machine or the file system was restarted, since")
    try:
        waiting = codec.loads(base64.urlsafe_b64decode(match["waiting"])) if match["waiting"] else {}
        known = {name: Known(*map(str, pair)) for name, pair in waiting.items() if is_shard_name(name)}
    except (ValueError, TypeError, AttributeError):
        raise WatchExpired("this is no token of this store") from None
    return Position(_FILE + match["file"], int(match["place"]), known)


def life_text(place: Place) -> str:
    """Return which life of machine and file system this is, as it stands in tokens. Raises OSError."""
    return blake2b(place.life().encode(), digest_size=6).hexdigest()
