"""A fleet to look at: the tasks of a shop, workers that run them, and rows of a day before."""
