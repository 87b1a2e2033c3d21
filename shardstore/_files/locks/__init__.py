"""Locks between processes: the kernel's, on the shard file itself."""
