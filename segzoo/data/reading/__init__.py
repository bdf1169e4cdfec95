"""Files to arrays: images of any depth and number of channels, masks of any coding, and what their numbers mean.

Imports nothing else of `segzoo.data`.
"""
