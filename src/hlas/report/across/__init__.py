"""Reports across runs: what a RUN on the command line leads to, their comparison, their difference."""
