"""Reading shards as files, without opening their sessions: for the index and for watchers."""
