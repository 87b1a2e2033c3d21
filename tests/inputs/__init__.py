"""What arrives from outside: keys, entries, damaged and foreign files, other people's permissions."""
