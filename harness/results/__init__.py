"""From a run folder's records to numbers, each defined once: samples, estimates, comparisons, coverage. No torch."""
