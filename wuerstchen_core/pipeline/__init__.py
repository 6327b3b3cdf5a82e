"""From a text prompt or a picture to images, in one call."""
