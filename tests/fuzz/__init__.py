"""Damaged inputs: whatever a file holds, only the project's own errors may come of it."""
