"""The rows of a batch: the table that they are read from, and the plan of what to draw for each."""
