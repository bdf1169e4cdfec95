"""Measuring a checkpoint: `evaluate` with one loop over a split, `compare`, and what a benchmark's server takes.

`evaluate` shares a split out to processes, `evaluator` is the loop, `mask_evaluator` and `class_evaluator` say what a
task keeps of an image, `counts` and `results` what comes of it. Imports all but `training`, `commands` and `cli`.
"""
