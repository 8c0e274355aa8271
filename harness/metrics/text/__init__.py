"""Metrics of any text: overlap with the reference, likeness of meaning, form and refusals."""
