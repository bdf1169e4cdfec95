"""Data sets by name: which images they have, which mask or class belongs to each, and how their files are found.

Imports `reading` and `fetching`. What is made of samples once they are read is no business of a data set.
"""

from segzoo.data.datasets import (  # noqa: F401  # importing them registers them
    ade20k,
    camvid,
    cifar,
    cityscapes,
    folder,
    image_files,
    synthetic,
    voc,
)
