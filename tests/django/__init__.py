"""With Django: one process has one set of its settings."""
