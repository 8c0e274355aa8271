"""Where a variant runs: ``base`` says what is asked and answered, ``local`` does it with weights in this process."""
