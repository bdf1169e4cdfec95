"""Images in, their classes out."""
