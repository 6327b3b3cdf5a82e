"""Training the three stages, from nothing, on one machine. `cocktail.py` is the recipe of the embedded model."""
