"""What the names of images and of their masks have around the part that both share."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import product


@dataclass(frozen=True)
class Affixes:
    """What stands before and after the shared part of a name: `image_7_sat.jpg` belongs to `mask_7_label.png`.

    Args:
        image_prefix: before it in an image's name.
        image_suffix: after it in an image's name.
        mask_prefix: before it in a mask's name.
        mask_suffix: after it in a mask's name.
    """

    image_prefix: str = ""
    image_suffix: str = ""
    mask_prefix: str = ""
    mask_suffix: str = ""

    @property
    def tell_apart(self) -> bool:
        """Whether masks have other names than images."""
        return (self.mask_prefix, self.mask_suffix) not in {("", ""), (self.image_prefix, self.image_suffix)}

    def of_image(self, stem: str) -> str | None:
        """The shared part of an image's path without its ending; None where the name has not what it should have."""
        return _core(stem, self.image_prefix, self.image_suffix)

    def of_mask(self, stem: str) -> str | None:
        """As `of_image`, of a mask's."""
        return _core(stem, self.mask_prefix, self.mask_suffix)

    def mask_stem(self, core: str) -> str:
        """A mask's path without its ending, by the shared part."""
        folder, slash, name = core.rpartition("/")
        return f"{folder}{slash}{self.mask_prefix}{name}{self.mask_suffix}"

    def stated(self) -> dict[str, str]:
        """Those that there are, by their keys below `data.folder`."""
        return {key: value for key, value in asdict(self).items() if value}


NO_AFFIXES = Affixes()
"""An image and its mask have one name."""

_MASK_WORDS = ("mask", "label", "lbl", "seg", "gt", "truth", "ann", "manual", "target")


def likely_affixes(images: Collection[str], masks: Collection[str]) -> Affixes:
    """The affixes with which most masks belong to an image: as few and as short ones as do; none where nothing fits.

    Args:
        images: paths without endings.
        masks: the same of masks.
    """
    best, fits = NO_AFFIXES, 0
    image_cores = {ends: _cores(images, *ends) for ends in _ends(images)}
    mask_cores = {ends: _cores(masks, *ends) for ends in [*_ends(masks), *_added(images, masks)]}
    for (image_ends, of_images), (mask_ends, of_masks) in product(image_cores.items(), mask_cores.items()):
        affixes = Affixes(*image_ends, *mask_ends)
        matched = len(of_images.keys() & of_masks.keys())
        if 2 * matched > len(masks) and (matched, *_brevity(affixes)) > (fits, *_brevity(best)):
            best, fits = affixes, matched
    return best


def affixes_in_one_folder(stems: Collection[str]) -> Affixes:
    """What tells the masks in a folder from its images, if a word such as mask does; none where nothing fits.

    Args:
        stems: paths of all files, without endings.
    """
    best, most = NO_AFFIXES, 0
    for prefix, suffix in _ends(stems, share=1 / 3):
        if bool(prefix) == bool(suffix) or not any(word in f"{prefix}{suffix}".lower() for word in _MASK_WORDS):
            continue
        masks = {stem for stem in stems if _core(stem, prefix, suffix) is not None}
        affixes = likely_affixes({*stems} - masks, masks)
        if len(masks) > most and affixes != NO_AFFIXES:
            best, most = affixes, len(masks)
    return best


def _brevity(affixes: Affixes) -> tuple[int, int]:
    stated = affixes.stated().values()
    return -len(stated), -sum(map(len, stated))


def _cores(stems: Iterable[str], prefix: str, suffix: str) -> Mapping[str, str]:
    found = ((_core(stem, prefix, suffix), stem) for stem in stems)
    return {core: stem for core, stem in found if core is not None}


def _core(stem: str, prefix: str, suffix: str) -> str | None:
    folder, slash, name = stem.rpartition("/")
    if not (name.startswith(prefix) and name.endswith(suffix) and len(name) > len(prefix) + len(suffix)):
        return None
    return f"{folder}{slash}{name[len(prefix) : len(name) - len(suffix)]}"


def _ends(stems: Collection[str], share: float = 1 / 2) -> Iterator[tuple[str, str]]:
    """Prefixes with suffixes that more than a share of the names have, the empty ones among them."""
    names = [stem.rpartition("/")[2] for stem in stems]
    before = Counter(name[: mark.end()] for name in names for mark in re.finditer(r"[_.\- ]|[^\W\d_](?=\d)", name))
    after = Counter(name[mark.start() :] for name in names for mark in re.finditer(r"[_.\- ]|(?<=\d)[^\W\d_]", name))
    common = [["", *(end for end, count in found.items() if count > share * len(names))] for found in (before, after)]
    yield from product(*common)


def _added(images: Collection[str], masks: Iterable[str]) -> Iterator[tuple[str, str]]:
    """What masks have after the whole name of an image, however many different ones there are."""
    for stem in masks:
        for mark in re.finditer(r"[_.\- ]", stem):
            if stem[: mark.start()] in images:
                yield "", stem[mark.start() :]
