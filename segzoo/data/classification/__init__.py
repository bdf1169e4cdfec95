"""Images with classes of their own, from files to batches."""
