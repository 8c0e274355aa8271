"""From a run folder's records to samples: what each family of metrics has for each variant, unit by unit."""
