"""Long runs under a load of every kind, after which a worker must hold nothing: ``make soak``."""
