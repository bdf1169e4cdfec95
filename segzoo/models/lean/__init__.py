"""Networks in training, rewritten so that they keep less for the backward pass."""
