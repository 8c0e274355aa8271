"""Where a variant runs: ``base`` defines the protocol, ``local`` implements it with weights in this process."""
