"""Finding the numbers of the cost model from measured rows, and how far off they leave it."""
