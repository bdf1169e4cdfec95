"""Training: from configuration to run directory."""
