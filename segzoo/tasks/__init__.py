"""What is trained and how it is measured: the task of each kind, its losses, its metrics and its optimizer.

A task is a `LightningModule`; `names` says what a configuration's open keys may be called.
Tasks import networks, data, checkpoints and what is below them; nothing of prediction, evaluation or runs.
"""
