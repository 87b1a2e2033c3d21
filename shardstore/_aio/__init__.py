"""What AsyncStore is made of: the loop it runs on, its threads, and the calls that wait for a session."""
