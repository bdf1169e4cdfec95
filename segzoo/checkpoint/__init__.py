"""Checkpoints that describe themselves, read safely and written atomically."""
