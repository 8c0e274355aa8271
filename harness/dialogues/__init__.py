"""Dialogues: how they are loaded, split, checked for leakage, rendered and tokenised. No torch."""
