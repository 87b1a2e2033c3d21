"""One test for each incident that this project answers to."""
