"""Tests of shardstore; tests/README.md says which directory protects what."""
