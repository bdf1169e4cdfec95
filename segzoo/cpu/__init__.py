"""What makes networks faster or smaller on processors, where `tools/benchmark.py` or a test counts what it brings.

`depthwise` has the convolutions that torch is slow at, `recompute` trains with less memory, and `bf16` lays networks
out for inference and keeps their classes. It imports networks (`segzoo.models`, `segzoo.backbones`) and nothing above.
"""
