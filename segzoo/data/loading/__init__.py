"""From data sets to batches: order, cache, worker processes, Lightning's data modules.

Imports `datasets`, `reading` and `transforms`.
"""
