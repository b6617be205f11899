"""One file = one scheduled report."""
