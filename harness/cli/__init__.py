"""The command line: its commands, their output and exit codes."""
