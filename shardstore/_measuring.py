"""What `otel.instrument` puts around an engine: each locked visit is measured, and what a verb does to many sessions.

Wait and hold of every visit go to the histograms. A visit of its own is a span; those of a batch share the batch's,
for thousands of spans would push all others out of an exporter's queue.
"""

from __future__ import annotations

import time
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from shardstore._model import Change, State

_KEY: Final = "shardstore.key"
_SESSIONS: Final = "shardstore.sessions"


class Telemetry(NamedTuple):
    """Where spans and values go, and how a key is shown."""

    tracer: Any
    measured: Callable[[str, float], None]  # "wait" or "hold", and seconds
    no_span: Any  # one that records nothing
    plain: bool  # keys as they are

    def shown(self, key: str) -> dict[str, str]:
        """Return a session's key as an attribute."""
        return {_KEY: key if self.plain else blake2b(key.encode(errors="replace"), digest_size=8).hexdigest()}

    def begin(self, name: str, key: str | None = None) -> Any:
        """Return a span that begins now."""
        return self.tracer.start_span(f"shardstore.{name}", attributes={} if key is None else self.shown(key))


class MeasuredEngine:
    """An engine whose visits are measured; all else is the engine's own."""

    def __init__(self, engine: Any, telemetry: Telemetry) -> None:
        self._engine = engine
        self._telemetry = telemetry

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def transaction(self, key: str, timeout: float | None, *, create: bool = True) -> MeasuredVisit:
        """Return a transaction on a session, which measures itself."""
        return MeasuredVisit(self._engine.transaction(key, timeout, create=create), self._telemetry, key)

    def at_hand(self, key: str) -> MeasuredVisit | None:
        """Return a visit that is inside; None where that would take a wait, which is measured elsewhere."""
        began = time.monotonic()
        inner = self._engine.at_hand(key)
        return None if inner is None else MeasuredVisit(inner, self._telemetry, key).begin().entered(began)

    def group(self, key: str, timeout: float | None, *, create: bool) -> MeasuredVisit | None:
        """Return a visit for several commits, which measures itself."""
        inner = self._engine.group(key, timeout, create=create)
        return None if inner is None else MeasuredVisit(inner, self._telemetry, key)

    def batch(self, *, durable: bool) -> MeasuredBatch:
        """Return a batch, which measures itself."""
        return MeasuredBatch(self._engine.batch(durable=durable), self._telemetry)

    def read_many(self, keys: Iterable[str]) -> Iterator[Any]:
        """Yield what the engine does; all of it is one span."""
        span, count = self._telemetry.begin("read_many"), 0
        try:
            for found in self._engine.read_many(keys):
                count += 1
                yield found
        except Exception as error:
            _fail(span, error)
            raise
        finally:
            span.set_attribute(_SESSIONS, count)
            span.end()

    def restore(self, key: str, timeout: float | None) -> State:
        """Bring back an archived session. The engine waits and works in one call, so this is a span and no values."""
        span = self._telemetry.begin("session", key)
        try:
            state: State = self._engine.restore(key, timeout)
        except BaseException as error:
            _fail(span, error)
            raise
        finally:
            span.end()
        return state

    def put_journal(self, txn: MeasuredVisit, *args: Any) -> None:
        """Put a journal in the place of a session's own."""
        self._engine.put_journal(txn.inner, *args)


class _Spanned:
    """What is entered by `with`, and is a span until its end."""

    def __init__(self, inner: Any, telemetry: Telemetry) -> None:
        self.inner = inner
        self._telemetry = telemetry
        self._span: Any = telemetry.no_span

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __enter__(self) -> Self:
        began = time.monotonic()
        self.begin()
        try:
            self.inner.__enter__()
        except BaseException as error:
            self._end(error)
            raise
        return self.entered(began)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        lost = error
        try:
            self.inner.__exit__(kind, error, trace)
        except BaseException as failure:
            lost = failure
            raise
        finally:
            self._end(lost)

    def begin(self) -> Self:
        """Begin the span."""
        return self

    def entered(self, began: float) -> Self:  # noqa: ARG002
        """Note that it was entered, and when that began."""
        return self

    def _end(self, error: BaseException | None) -> None:
        span, self._span = self._span, self._telemetry.no_span
        _fail(span, error)
        span.end()


class MeasuredVisit(_Spanned):
    """One locked visit to a session. A span, unless it is a part of a batch, which has one."""

    def __init__(self, inner: Any, telemetry: Telemetry, key: str | None) -> None:
        """`key`: of the span; None: there is to be none."""
        super().__init__(inner, telemetry)
        self._key = key
        self._inside_since: float | None = None

    def begin(self) -> Self:
        """Begin the span."""
        if self._key is not None:
            self._span = self._telemetry.begin("session", self._key)
        return self

    def entered(self, began: float) -> Self:
        """Note that the visit is inside, and since when that was asked for."""
        now = self._inside_since = time.monotonic()
        self._span.add_event("inside")
        self._telemetry.measured("wait", now - began)
        return self

    def _end(self, error: BaseException | None) -> None:
        since, self._inside_since = self._inside_since, None
        if since is not None:
            self._telemetry.measured("hold", time.monotonic() - since)
        super()._end(error)

    def abandon(self) -> None:
        """Unlock, where an exception came as `with` began or ended."""
        self.inner.abandon()
        self._end(None)

    @property
    def state(self) -> State:
        """What is committed."""
        state: State = self.inner.state
        return state

    def commit(self, change: Change, actor: str, *, durable: bool, at: int | None = None) -> None:
        """Commit a change."""
        self.inner.commit(change, actor, durable=durable, at=at)
        self._span.add_event("committed", {"shardstore.durable": durable, "shardstore.rev": self.inner.state.rev})

    def sync(self) -> None:
        """Sync what was committed."""
        self.inner.sync()
        self._span.add_event("synced")

    def rename(self, target: MeasuredVisit) -> None:
        """Move the session to the key of another transaction."""
        self.inner.rename(target.inner)


class MeasuredBatch(_Spanned):
    """Visits to one session after the other, as one span. An error's span names the session, if the error does."""

    def __init__(self, inner: Any, telemetry: Telemetry) -> None:
        super().__init__(inner, telemetry)
        self._sessions = 0

    def begin(self) -> Self:
        """Begin the span."""
        self._span = self._telemetry.begin("batch")
        return self

    def _end(self, error: BaseException | None) -> None:
        key = getattr(error, "key", None)
        if key is not None:
            self._span.set_attributes(self._telemetry.shown(key))
        self._span.set_attribute(_SESSIONS, self._sessions)
        super()._end(error)

    def transaction(self, key: str, timeout: float | None, *, create: bool = True) -> MeasuredVisit:
        """Return a transaction on a session, whose wait and hold are measured."""
        inner = self.inner.transaction(key, timeout, create=create)
        self._sessions += 1
        return MeasuredVisit(inner, self._telemetry, None)

    def cover(self, txn: MeasuredVisit) -> None:
        """Have what is committed of a session synced too."""
        self.inner.cover(txn.inner)

    def restore(self, archived: Any, timeout: float | None) -> Any:
        """Bring back an archived session."""
        self._sessions += 1
        return self.inner.restore(archived, timeout)

    def sync(self, *, names: bool = False) -> None:
        """Sync what was done."""
        self.inner.sync(names=names)
        self._span.add_event("synced")


def _fail(span: Any, error: BaseException | None) -> None:
    if error is not None:
        span.set_attribute("error.type", type(error).__name__)
