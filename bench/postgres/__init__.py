"""The PostgreSQL engine beside plain psycopg that does the same."""
