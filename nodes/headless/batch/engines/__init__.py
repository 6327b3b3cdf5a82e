"""Engines that run the rows of a batch: worker processes on this machine, or actors on a Ray cluster."""
