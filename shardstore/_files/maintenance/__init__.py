"""Maintenance of a store in files, one module for each task."""
