"""The file engine: a store that is a directory of plain-text files on one machine."""
