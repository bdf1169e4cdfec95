"""CIFAR-10 in its published layout, of a few images."""

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
FOLDER = "cifar-10-batches-bin"
BATCHES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]


def arrays(count=6):
    """Labels (N,) and pixels (N, 3072) of each batch."""
    generator = np.random.default_rng(0)
    return {
        name: (generator.integers(0, 10, count, np.uint8), generator.integers(0, 256, (count, 3072), np.uint8))
        for name in BATCHES
    }


def files(count=6):
    """The eight files of the binary archive, of a few images each."""
    found = {
        f"{name}.bin": np.concatenate([labels[:, None], data], axis=1).tobytes()
        for name, (labels, data) in arrays(count).items()
    }
    return {**found, "batches.meta.txt": "".join(f"{name}\n" for name in [*NAMES, ""]).encode(), "readme.html": b"<p>"}


def write_python_version(folder: Path, count=6):
    """The same images as pickles, as torchvision reads them."""
    folder.mkdir()
    for name, (labels, data) in arrays(count).items():
        (folder / name).write_bytes(pickle.dumps({"labels": labels.tolist(), "data": data}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": NAMES}))


def write_archive(path: Path, contents):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"{FOLDER}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path
