"""SBD's masks as VOC's split `trainaug`: `SegmentationClassAug` and `trainaug.txt` in the VOC2012 folder."""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from segzoo.data.archive import folder_beside
from segzoo.data.images import write_mask
from segzoo.data.progress import item_bar
from segzoo.data.split_list import read_split_list
from segzoo.data.voc import AUGMENTED_MASKS, LABELS, LISTS, MASKS, TRAINAUG_LIST
from segzoo.errors import DataError, first_line
from segzoo.files import write_atomically

logger = logging.getLogger(__name__)

_REAL_VOC = (1_464, 1_449)  # train and val of VOC 2012
_REAL_TRAINAUG = 10_582


def write_trainaug(sbd: Path, voc: Path) -> int:
    """Write the masks and the list of `trainaug`; how many images it has.

    Images of VOC's own train split keep VOC's mask, whose objects have a border of ignored pixels (255). All others
    get SBD's mask, which has none. The images are VOC's: its JPEGImages hold all that SBD has masks for.

    Args:
        sbd: SBD's folder with `cls`, `train.txt` and `val.txt`.
        voc: the VOC2012 folder.

    Raises:
        DataError: a file is missing or damaged, or the real VOC does not give 10,582 images.

    Source: Hariharan et al., "Semantic Contours from Inverse Detectors", ICCV 2011. The split is that of DeepLab
    (Chen et al., arXiv:1606.00915, section 4.1).
    """
    voc_train, voc_val = (_ids(voc / LISTS / f"{split}.txt") for split in ("train", "val"))
    sbd_ids = [name for split in ("train", "val") for name in _ids(sbd / f"{split}.txt")]
    ids = trainaug_ids(voc_train, voc_val, sbd_ids)
    _write_masks(ids, set(voc_train), sbd, voc)
    # Last: who finds the list finds the masks.
    write_atomically(voc / TRAINAUG_LIST, "".join(f"{name}\n" for name in ids).encode())
    logger.info("%s and %s are written; %s is not needed any more", voc / AUGMENTED_MASKS, voc / TRAINAUG_LIST, sbd)
    return len(ids)


def trainaug_ids(voc_train: Sequence[str], voc_val: Sequence[str], sbd: Sequence[str]) -> list[str]:
    """SBD's images, train and val alike, without those of VOC's val, and VOC's train; sorted.

    Raises:
        DataError: VOC's lists have their real sizes, and the result has not.

    >>> trainaug_ids(voc_train=["b"], voc_val=["c"], sbd=["a", "b", "c"])
    ['a', 'b']
    """
    ids = sorted(set(sbd) - set(voc_val) | set(voc_train))
    if (len(voc_train), len(voc_val)) == _REAL_VOC and len(ids) != _REAL_TRAINAUG:
        raise DataError(
            f"trainaug: {len(ids):,} images instead of {_REAL_TRAINAUG:,}. SBD's lists are incomplete; fetch it again."
        )
    return ids


def read_sbd_mask(path: Path) -> npt.NDArray[np.uint8]:
    """The class numbers of one of SBD's `cls/*.mat`.

    Args:
        path: MATLAB 5 file with a struct `GTcls` that has a field `Segmentation`.

    Shape: (H, W).

    Raises:
        DataError: the file is missing, damaged or another, or holds a value that is no class.
    """
    from scipy.io import loadmat  # half a second, for this one data set

    try:
        values = np.asarray(loadmat(path, variable_names=["GTcls"])["GTcls"]["Segmentation"][0, 0])
    except Exception as error:  # the reader lets nearly every type through on damaged files
        raise DataError(f"{path}: no mask of SBD (GTcls.Segmentation): {first_line(error)}") from error
    if values.ndim != 2 or values.dtype.kind not in "ui":
        raise DataError(f"{path}: GTcls.Segmentation is no table of class numbers")
    try:
        return LABELS.encode(values)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _write_masks(ids: Sequence[str], of_voc: set[str], sbd: Path, voc: Path) -> None:
    """All masks or none; a folder that has them already is left as it is."""
    masks = voc / AUGMENTED_MASKS
    if masks.is_dir():
        missing = [name for name in ids if not (masks / f"{name}.png").is_file()]
        if missing:
            raise DataError(f"{masks}: {len(missing):,} of {len(ids):,} masks are missing. Move the folder away.")
        return
    with folder_beside(masks) as temporary, item_bar("converting masks", len(ids)) as move_to:
        for number, name in enumerate(ids, start=1):
            target = temporary / f"{name}.png"
            if name in of_voc:
                shutil.copyfile(voc / MASKS / target.name, target)
            else:
                write_mask(target, read_sbd_mask(sbd / "cls" / f"{name}.mat"), LABELS.flat_palette())
            move_to(number)
        temporary.replace(masks)


def _ids(path: Path) -> list[str]:
    if not path.is_file():
        raise DataError(f"{path}: no such list; is this folder complete?")
    names = [line.text for line in read_split_list(path)]
    if odd := [name for name in names if Path(name).name != name]:
        raise DataError(f"{path}: '{odd[0]}' is no plain image id")
    return names
