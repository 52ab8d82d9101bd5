"""Run captured jobs, or rows, as a worker would."""
