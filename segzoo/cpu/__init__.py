"""What makes networks faster or smaller on processors, where `tools/benchmark.py` or a test counts what it brings.

`depthwise` has the convolutions that torch is slow at; `training_pass` and `recompute` train with less memory;
`prepacking` lays bf16 networks out for inference, and `split_bf16` keeps their classes.
"""
