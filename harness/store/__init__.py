"""The run folder: its schema, reading and writing, seals, redaction and baselines. No torch."""
