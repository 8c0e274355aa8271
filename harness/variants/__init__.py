"""Variants: what is measured, the files behind them, and how they were made. No torch."""
