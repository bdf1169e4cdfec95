"""How fast this machine runs what segzoo does, beside what a user would run instead; see tools/benchmark.py."""
