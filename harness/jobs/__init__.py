"""Whole jobs: a run from its config to a finished folder, and scores for replies generated outside the harness."""
