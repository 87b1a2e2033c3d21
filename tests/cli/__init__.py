"""The command line, by its real process: text and JSON, exit codes, terminals of every width and none."""
