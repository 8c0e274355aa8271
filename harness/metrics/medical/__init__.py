"""Metrics of what a reply says medically, by rules and lexicons."""
