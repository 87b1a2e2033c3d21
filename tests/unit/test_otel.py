"""Spans and metrics, as the SDK of OpenTelemetry receives them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shardstore import InvalidKey, NestedUpdate, SessionExists, SessionNotFound, Store, otel
from shardstore import _events as events
from shardstore import _measuring as measuring
from shardstore.aio import AsyncStore
from tests.scenarios.awaited import run
from tests.support.calls import fewest_calls


class Seen:
    """What was exported."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.reader = InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meters = MeterProvider(metric_readers=[self.reader])

    @property
    def counts(self) -> dict[str, int]:
        """How many values each histogram got."""
        found: Any = self.reader.get_metrics_data()
        return {
            metric.name: sum(point.count for point in metric.data.data_points)
            for resource in (found.resource_metrics if found else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@pytest.fixture
def seen() -> Iterator[Seen]:
    """Yield what the stores export that are opened in the test after `instrument`."""
    made = Seen()
    yield made
    otel.uninstrument()
    made.tracers.shutdown()
    made.meters.shutdown()


def test_a_visit_is_a_span_and_four_things_are_measured(root: Path, seen: Seen) -> None:
    """Wait and hold of each visit, each sync, each refresh; a hash in place of the key."""
    otel.instrument(tracer_provider=seen.tracers, meter_provider=seen.meters)
    with Store(root) as store:
        store.create("secret:key", {"n": 0})
        store.using(actor="web").update("secret:key", lambda draft: draft.update(n=1))
        store.update("secret:key", lambda draft: None)
        for n in range(70):
            store.get_or_create(f"k{n}", {})
        store.list()
        for n in range(70):
            store.patch(f"k{n}", {"n": 1})
        store.list()
        assert store["secret:key"]["n"] == 1
    spans = seen.exporter.get_finished_spans()
    assert len(spans) == 143
    assert {span.name for span in spans} == {"shardstore.session"}
    assert [[event.name for event in span.events] for span in spans[:3]] == [
        ["inside", "committed"], ["inside", "committed"], ["inside"]
    ]  # fmt: skip
    assert dict(spans[1].events[1].attributes or {}) == {"shardstore.durable": True, "shardstore.rev": 2}
    assert len({(span.attributes or {})["shardstore.key"] for span in spans}) == 71
    assert "secret" not in "".join(span.to_json() for span in spans)
    counts = seen.counts
    assert counts["shardstore.wait.duration"] == counts["shardstore.hold.duration"] == 143
    assert counts["shardstore.sync.duration"] >= 142
    assert counts["shardstore.refresh.duration"] >= 2


def test_errors_are_named_and_the_verbs_do_what_they_did(root: Path, seen: Seen) -> None:
    """An error ends its span, with its type; copy, rename, archive and the bulk verbs work as ever."""
    otel.instrument(keys="plain", tracer_provider=seen.tracers, meter_provider=seen.meters)
    with Store(root) as store:
        with pytest.raises(SessionNotFound):
            store.update("nobody", lambda draft: None, create=False)
        with pytest.raises(NestedUpdate):
            store.update("k", lambda draft: store.patch("k", {}) and None)
        store.append("k", [1], {"n": 1})
        store.copy("k", "other")
        store.rename("other", "third")
        assert store.create_many({"a": {}, "b": {}}) == 2
        assert store.delete_all("a") == 1
        assert len(store.prune(prefix="b", older_than=0).actions) == 1
        assert store.archive.restore("b").exists
        assert store.compact().ok
        with store.edit("k") as draft:
            draft["n"] = 2
        assert draft.session["n"] == 2
        assert store.delete("k")
        assert sorted(store) == ["b", "third"]
    spans = seen.exporter.get_finished_spans()
    errors = [(span.attributes or {}).get("error.type") for span in spans]
    assert errors[:3] == ["SessionNotFound", "NestedUpdate", "NestedUpdate"]
    assert not any(errors[3:])
    assert (spans[0].attributes or {})["shardstore.key"] == "nobody"
    assert all(span.end_time for span in spans)


@pytest.mark.parametrize("in_files", [True, False])
def test_bulk_verbs_are_one_span_each(root: Path, seen: Seen, in_files: bool) -> None:
    """With the number of sessions; each visit's wait and hold are measured all the same, on any engine."""
    otel.instrument(tracer_provider=seen.tracers, meter_provider=seen.meters)
    with Store(root) if in_files else Store.memory() as store:
        pairs = {f"k{n}": {"n": n} for n in range(5)}
        verbs: list[tuple[Callable[[], object], str, int, int]] = [
            (lambda: store.create_many(pairs), "batch", 5, 5),
            (lambda: store.create_many({**pairs, "new": {}}, on_exists="skip"), "batch", 6, 6),
            (lambda: store.get_many([*pairs, "nobody"]), "read_many", 6, 0),
            (lambda: list(store.sessions("k")), "read_many", 5, 0),
            (lambda: store.prune(prefix="k", older_than=0), "batch", 5, 5),
            (lambda: store.archive.restore_many("k"), "batch", 5, 0),
            (lambda: store.delete_all("k"), "batch", 5, 5),
        ]
        visits = 0
        for verb, name, sessions, more in verbs:
            seen.exporter.clear()
            verb()
            visits += more
            (span,) = seen.exporter.get_finished_spans()
            assert (span.name, dict(span.attributes or {})) == (f"shardstore.{name}", {"shardstore.sessions": sessions})
        counts = seen.counts
        assert counts["shardstore.wait.duration"] == counts["shardstore.hold.duration"] == visits
        assert ("shardstore.sync.duration" in counts) == in_files


def test_the_session_that_stops_a_bulk_verb_is_named(root: Path, seen: Seen) -> None:
    """In the batch's span, beside the error."""
    otel.instrument(keys="plain", tracer_provider=seen.tracers, meter_provider=seen.meters)
    with Store(root) as store:
        store.create("b", {})
        with pytest.raises(SessionExists):
            store.create_many({"a": {}, "b": {}, "c": {}})
        with pytest.raises(InvalidKey):
            store.get_many(["a", ""])
        with pytest.raises(InvalidKey):
            store.update(5, lambda draft: None)  # type: ignore[arg-type]
        found = store.sessions()
        next(found)
        del found
    made, batch, read, left = seen.exporter.get_finished_spans()
    assert made.name == "shardstore.session"
    assert dict(batch.attributes or {}) == {
        "shardstore.sessions": 2, "shardstore.key": "b", "error.type": "SessionExists",
    }  # fmt: skip
    assert dict(read.attributes or {}) == {"shardstore.sessions": 0, "error.type": "InvalidKey"}
    assert dict(left.attributes or {}) == {"shardstore.sessions": 1}, "leaving an iterator is no error"


def test_what_an_event_loop_asks_for_is_measured(root: Path, seen: Seen) -> None:
    """Calls on the loop, and visits of a thread to a lane, in which several calls share one lock and one sync."""
    otel.instrument(tracer_provider=seen.tracers, meter_provider=seen.meters)

    async def main() -> None:
        async with AsyncStore(root) as store:
            with pytest.raises(ZeroDivisionError):
                await store.update("k", lambda _: 1 // 0)
            seen.exporter.clear()
            await asyncio.gather(*[store.patch("k", {f"f{n}": n}) for n in range(8)])
            spans = seen.exporter.get_finished_spans()
            names = [event.name for span in spans for event in span.events]
            assert names.count("committed") == 8
            assert names.count("inside") == len(spans) == names.count("synced") < 8
            hot = store.using(durability="relaxed")
            seen.exporter.clear()
            for n in range(3):
                await hot.patch("k", {"n": n})
            spans = seen.exporter.get_finished_spans()
            assert [[event.name for event in span.events] for span in spans] == [["inside", "committed"]] * 3
            assert await store.create_many({"a": {}, "b": {}}) == 2
            assert seen.exporter.get_finished_spans()[-1].name == "shardstore.batch"

    run(main())
    counts = seen.counts
    assert counts["shardstore.wait.duration"] == counts["shardstore.hold.duration"]


def test_restoring_is_a_span(root: Path, seen: Seen) -> None:
    otel.instrument(keys="plain", tracer_provider=seen.tracers, meter_provider=seen.meters)
    with Store(root) as store, pytest.raises(SessionNotFound):
        store.archive.restore("nobody")
    (span,) = seen.exporter.get_finished_spans()
    assert dict(span.attributes or {}) == {"shardstore.key": "nobody", "error.type": "SessionNotFound"}


def test_measuring_costs_nothing_when_it_is_off(root: Path, seen: Seen) -> None:
    """No verb calls a function of its modules, and each makes as many calls as before it was ever on."""
    modules = {otel.__file__, events.__file__, measuring.__file__}
    before, used = counted(root)
    assert not modules & used
    otel.instrument(tracer_provider=seen.tracers, meter_provider=seen.meters)
    measured, used = counted(root)
    assert modules & used
    assert all(measured[verb] > before[verb] for verb in before if verb != "get")
    otel.uninstrument()
    after, used = counted(root)
    assert (after, modules & used) == (before, set())


def counted(root: Path) -> tuple[dict[str, int], set[str]]:
    """Return how many Python calls each verb makes of a store that is opened now, and the files of what is called."""
    keys, numbers = [f"k{n}" for n in range(10)], count()
    with Store(root, durability="relaxed") as store:
        store.create_many({key: {"n": -1} for key in keys}, on_exists="skip")
        verbs: dict[str, Callable[[], object]] = {
            "update": lambda: store.patch("k0", {"n": next(numbers)}),
            "append": lambda: store.append("k1", [1]),
            "get": lambda: store.get("k0"),
            "get_many": lambda: store.get_many(keys),
            "create_many": lambda: store.create_many({key: {} for key in keys}, on_exists="skip"),
        }
        found = {name: fewest_calls(verb, warm_up=20, times=100) for name, verb in verbs.items()}
    files = {code.co_filename for calls in found.values() for code in calls}
    return {name: len(calls) for name, calls in found.items()}, files


def test_off_is_off(root: Path, seen: Seen) -> None:
    """Before `instrument`, and after `uninstrument`, a store is made as if there were no such thing."""
    assert events.measured is None
    assert events.wrap is None
    otel.instrument(tracer_provider=seen.tracers, meter_provider=seen.meters)
    otel.uninstrument()
    with Store(root) as store:
        store.create("k", {})
        assert type(store.engine).__name__ == "FileEngine"
    assert seen.exporter.get_finished_spans() == ()
    with pytest.raises(ValueError, match="hash"):
        otel.instrument(keys="none")  # type: ignore[arg-type]
