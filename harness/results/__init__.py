"""From a run folder's records to numbers: samples, estimates, comparisons and coverage. No torch."""
