"""Statistics of the benchmark."""

from __future__ import annotations

import time

import pytest

from bench.measure import Summary, median, paced, quantile, sample


@pytest.mark.parametrize(
    ("values", "q", "wanted"),
    [([5], 0.5, 5), ([1, 2, 3], 0.5, 2), ([1, 2, 3, 4], 0.5, 2), (range(1, 101), 0.99, 99), (range(1, 101), 1.0, 100),
     (range(1, 101), 0.0, 1), (range(1, 1001), 0.999, 999)],
)  # fmt: skip
def test_a_quantile_is_always_a_latency_that_happened(values, q, wanted):
    assert quantile(list(values), q) == wanted


def test_nothing_measured_has_no_quantile_and_no_median():
    """Zero would look like the fastest store of all."""
    with pytest.raises(ValueError, match="no values"):
        quantile([], 0.5)
    with pytest.raises(ValueError, match="no values"):
        median([])


def test_the_median_of_rounds_ignores_the_one_that_was_disturbed():
    assert median([10, 11, 900]) == 11
    assert median([10, 20]) == 15


def test_a_slow_operation_is_still_called_often_enough_for_a_median():
    assert len(sample(lambda: time.sleep(0.002), 0.0, at_least=5)) == 5


def test_a_stall_counts_for_every_call_that_would_have_waited_behind_it():
    """Coordinated omission: one stall of 100 ms in a 5 ms beat is twenty late calls, not one."""
    stalls = iter([0.1] + [0.0] * 100)
    taken = paced(lambda: time.sleep(next(stalls)), 0.2, 0.005)
    assert sum(latency > 20_000_000 for latency in taken) >= 10


def test_rates_of_several_processes_use_the_wall_time_not_the_sum_of_latencies():
    metrics = Summary.of([1_000_000] * 100, seconds=0.05).metrics()
    assert metrics["ops_s"] == pytest.approx(2_000)
    assert metrics["p50_us"] == metrics["max_us"] == 1_000
