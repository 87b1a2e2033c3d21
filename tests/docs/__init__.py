"""Documentation and package, as they are shipped."""
