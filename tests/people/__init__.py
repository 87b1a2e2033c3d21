"""What people do to a store: copies, converters, clocks, signals, forks, root, ends of resources. A file a kind."""
