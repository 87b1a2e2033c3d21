"""The asyncio form of the store: what it adds to the contract."""
