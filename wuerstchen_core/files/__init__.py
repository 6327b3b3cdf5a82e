"""Files on disk: read with care, since they may come from strangers, and written whole or not at all."""
