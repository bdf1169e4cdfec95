"""The Xception paper's experiments, rerun on pictures that fit the machine."""
