"""What computes a trained network's logits: torch, and whatever else can."""
