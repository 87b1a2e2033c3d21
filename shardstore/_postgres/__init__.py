"""The engine in a PostgreSQL database: the same journals, a row for each line, and the row lock of their session."""
