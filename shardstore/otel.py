"""Spans and metrics for OpenTelemetry: `pip install shardstore[otel]`.

    from shardstore import otel

    otel.instrument()
    store = Store("agents/main/sessions")  # stores opened from here on are measured

A span `shardstore.session` covers each locked visit to a session, from the call on: its events are `inside` and
`committed`. Four histograms, in seconds:

    shardstore.wait.duration     until the session's lock was had
    shardstore.hold.duration     while it was held
    shardstore.sync.duration     each sync of a file
    shardstore.refresh.duration  each refresh of the index, and each rebuild

Keys are in spans alone, and hashed unless you ask for them: they may name people. A program that does not call
`instrument` pays nothing.
"""

from __future__ import annotations

import time
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from shardstore import _events as events
from shardstore._imports import late_imports

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from shardstore._model import Change, State

__all__ = ["instrument", "uninstrument"]

_MEASURED: Final = {
    "wait": "Time until a session's lock was had",
    "hold": "Time for which a session's lock was held",
    "sync": "Time of one sync of a file",
    "refresh": "Time of one refresh of the index",
}


def instrument(
    *,
    keys: Literal["hash", "plain"] = "hash",
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> None:
    """Measure every store that this process opens from now on; `using` of a measured store is measured too.

    keys: "hash": spans carry the first 16 digits of a hash of the key; "plain": the key itself.
    tracer_provider, meter_provider: by default the global ones.

    Raises ImportError where OpenTelemetry is not installed, ValueError for other `keys`.
    """
    if keys not in ("hash", "plain"):
        raise ValueError(f'keys is "hash" or "plain", not {keys!r}')
    with late_imports:
        from opentelemetry import metrics, trace

    tracer = trace.get_tracer("shardstore", tracer_provider=tracer_provider)
    meter = metrics.get_meter("shardstore", meter_provider=meter_provider)
    histograms = {
        name: meter.create_histogram(f"shardstore.{name}.duration", unit="s", description=description)
        for name, description in _MEASURED.items()
    }

    def measured(what: str, seconds: float) -> None:
        kind = {"kind": what} if what in ("refresh", "rebuild") else {}
        histograms["refresh" if what == "rebuild" else what].record(seconds, kind)

    def wrap(engine: Any) -> Any:
        return engine if isinstance(engine, _Engine) else _Engine(engine, tracer, measured, plain=keys == "plain")

    events.measured, events.wrap = measured, wrap


def uninstrument() -> None:
    """Measure no store that is opened from now on, and no sync or refresh of any."""
    events.measured = events.wrap = None


class _Engine:
    """An engine whose transactions are measured; all else is the engine's own."""

    def __init__(self, engine: Any, tracer: Any, measured: Any, *, plain: bool) -> None:
        self._engine = engine
        self._tracer = tracer
        self._measured = measured
        self._plain = plain

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def transaction(self, key: str, timeout: float | None, *, create: bool = True) -> _Transaction:
        """Return a transaction on a session, which measures itself."""
        shown = key if self._plain else blake2b(key.encode(errors="replace"), digest_size=8).hexdigest()
        inner = self._engine.transaction(key, timeout, create=create)
        return _Transaction(inner, self._tracer, self._measured, shown)


class _Transaction:
    """One locked visit to a session, as a span."""

    def __init__(self, inner: Any, tracer: Any, measured: Any, key: str) -> None:
        self._inner = inner
        self._tracer = tracer
        self._measured = measured
        self._key = key
        self._span: Any = None
        self._entered = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __enter__(self) -> Self:
        began = time.monotonic()
        self._span = self._tracer.start_span("shardstore.session", attributes={"shardstore.key": self._key})
        try:
            self._inner.__enter__()
        except BaseException as error:
            self._end(error)
            raise
        self._entered = time.monotonic()
        self._span.add_event("inside")
        self._measured("wait", self._entered - began)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            self._inner.__exit__(kind, error, trace)
        finally:
            self._measured("hold", time.monotonic() - self._entered)
            self._end(error)

    def _end(self, error: BaseException | None) -> None:
        if error is not None:
            self._span.set_attribute("error.type", type(error).__name__)
        self._span.end()

    @property
    def state(self) -> State:
        """The committed state."""
        state: State = self._inner.state
        return state

    def commit(self, change: Change, actor: str, *, durable: bool, at: int | None = None) -> None:
        """Commit a change."""
        self._inner.commit(change, actor, durable=durable, at=at)
        self._span.add_event("committed", {"shardstore.durable": durable, "shardstore.rev": self._inner.state.rev})

    def rename(self, target: _Transaction) -> None:
        """Move the session to the key of another transaction."""
        self._inner.rename(target._inner)  # one class
