"""Reports and rules of maintenance; each module says what it does."""
