"""A journal as a value: its records, the state they lead to, and torn-write detection. No I/O."""
