"""One for each file of ours, by the same name."""
