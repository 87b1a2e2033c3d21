"""The lower rooms, one at a time."""
