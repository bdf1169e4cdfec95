"""Which images are held out for validation where nothing else says so."""

import hashlib
import math
import os
from collections import defaultdict
from collections.abc import Hashable, Sequence
from fractions import Fraction


def smallest_hashes(ids: Sequence[str], share: float, seed: int) -> list[str]:
    """The share of the ids that has the smallest hashes: the same on every machine, and nearly so when ids are added.

    Args:
        ids: of all images.
        share: of them, rounded up.
        seed: another one takes others.
    """
    prefix = f"{seed}/".encode() if seed else b""
    ranked = sorted(ids, key=lambda name: hashlib.sha256(prefix + os.fsencode(name)).digest())
    # As a fraction of decimals, for in binary 25 * 0.28 is a little above 7.
    return ranked[: math.ceil(len(ranked) * Fraction(str(share)))]


def held_out_of_each(ids: Sequence[str], groups: Sequence[Hashable], share: float, seed: int) -> set[str]:
    """The share of each group, but never all of it: a group of one image is trained on.

    Args:
        ids: of all images.
        groups: of each image: its class, or its classes.
        share: as in `smallest_hashes`.
        seed: as in `smallest_hashes`.

    >>> sorted(held_out_of_each(["a", "b", "c", "d", "e"], ["cat", "cat", "cat", "cat", "dog"], share=0.5, seed=0))
    ['c', 'd']
    """
    members: dict[Hashable, list[str]] = defaultdict(list)
    for name, group in zip(ids, groups, strict=True):
        members[group].append(name)
    return {name for names in members.values() for name in smallest_hashes(names, share, seed)[: len(names) - 1]}
