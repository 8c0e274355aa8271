"""Metrics of any text: overlap with the reference, similarity of meaning, form and refusals."""
