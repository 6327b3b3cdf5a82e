"""Training of the three stages on one machine. `cocktail.py` trains the embedded model."""
