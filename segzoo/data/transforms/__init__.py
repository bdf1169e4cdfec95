"""From an image and its mask to what the network takes: crops, augmentation, normalisation.

Works on arrays in memory, and imports from `reading` only what describes them.
"""
