"""The run folder: its schema, how it is written and read, sealed, redacted and accepted as a baseline. No torch."""
