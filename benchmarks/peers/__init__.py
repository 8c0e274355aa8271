"""The same job done by other tools."""
