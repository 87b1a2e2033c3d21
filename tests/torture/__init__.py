"""The proof harness: kill, fail, cut off and race the store, then ask whether anything acknowledged was lost."""
