"""Where a variant runs: ``base`` defines the protocol; ``local`` has weights in this process, ``endpoint`` a server."""
