"""Values that hold within a block, and for whom; threads."""
