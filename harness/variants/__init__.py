"""What is measured: variants, the files behind them, and what is known of how they were made. No torch."""
