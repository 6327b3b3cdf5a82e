"""The output folder of a batch: images, journal, manifest and page."""
