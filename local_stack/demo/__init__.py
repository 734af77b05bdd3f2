"""A lender's day on this machine: planned from a seed, run over the real parts, proved against the outside systems' own books."""
