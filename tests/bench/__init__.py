"""Tests of the benchmark's own harness: a wrong ruler is worse than none."""
