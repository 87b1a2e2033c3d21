"""Spans and metrics, as the SDK of OpenTelemetry receives them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shardstore import NestedUpdate, SessionNotFound, Store, otel
from shardstore import _events as events


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
