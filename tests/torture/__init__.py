"""The proof harness: kill, fail, tear and race the store, then ask whether anything acknowledged was lost."""
