"""What measures segzoo: benchmarks, and the Xception paper's experiments. It is no part of the package."""
