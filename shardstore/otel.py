"""Spans and metrics for OpenTelemetry: `pip install shardstore[otel]`.

    from shardstore import otel

    otel.instrument()
    store = Store("agents/main/sessions")  # stores opened from here on are measured

A span `shardstore.session` covers each locked visit to a session, from the call on: its events are `inside`,
`committed` and, where several commits share a sync, `synced`. Bulk verbs are one span each: `shardstore.batch` for
those that write, `shardstore.read_many` for `get_many` and `sessions`, both with the number of sessions. Four
histograms, in seconds, with the visits of bulk verbs too:

    shardstore.wait.duration     until the session's lock was had
    shardstore.hold.duration     while it was held
    shardstore.sync.duration     each sync of a file
    shardstore.refresh.duration  each refresh of the index, and each rebuild

Keys are in spans alone, and hashed unless you ask for them: they may name people. A program that does not call
`instrument` pays nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from shardstore import _events as events
from shardstore._imports import late_imports
from shardstore._measuring import MeasuredEngine, Telemetry

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

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

    >>> from shardstore import otel
    >>> otel.instrument(keys="hash")
    >>> measured = Store("agents/measured/sessions")
    >>> otel.uninstrument()
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

    telemetry = Telemetry(tracer, measured, trace.INVALID_SPAN, keys == "plain")

    def wrap(engine: Any) -> Any:
        return engine if isinstance(engine, MeasuredEngine) else MeasuredEngine(engine, telemetry)

    events.measured, events.wrap = measured, wrap


def uninstrument() -> None:
    """Measure no store that is opened from now on, and no sync or refresh of any.

    >>> from shardstore import otel
    >>> otel.uninstrument()
    """
    events.measured = events.wrap = None
