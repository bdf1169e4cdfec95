"""Trained networks at work: predictors, the jobs of `predict`, tiles and rasters, engines and export.

It imports `segzoo.tasks` and what stands below; training and evaluation import it. CONTRIBUTING.md follows an image.
"""
