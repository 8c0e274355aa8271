"""The terminal: what the commands are, what they print and what they exit with."""
