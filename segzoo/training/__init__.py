"""Training: from configuration to run directory.

`build` makes a run's parts, `trainer` joins them under Lightning, and `train` runs it, alone or stage by stage.
Runs import tasks, prediction and everything below; neither evaluation nor commands.
"""
