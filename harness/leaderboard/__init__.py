"""Runs that asked the same dialogues, and which of their variants lead."""
