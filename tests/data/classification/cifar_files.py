"""CIFAR-10 in its published layout, of a few images."""

import io
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
FOLDER = "cifar-10-batches-py"
BATCHES = [f"data_batch_{number}" for number in range(1, 6)]


class Python2Pickler(pickle._Pickler):
    """Pickles as Python 2 did: every text is a byte string, and NumPy lies where it lay then."""

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012

    def save_byte_string(self, value):
        content = value.encode() if isinstance(value, str) else value
        short = len(content) < 256
        opcode = pickle.SHORT_BINSTRING + bytes([len(content)]) if short else b"T" + struct.pack("<i", len(content))
        self.write(opcode + content)
        self.memoize(value)

    dispatch[bytes] = dispatch[str] = save_byte_string

    def save_global(self, obj, name=None):
        if getattr(obj, "__name__", "") != "_reconstruct":
            super().save_global(obj, name)
            return
        self.write(b"cnumpy.core.multiarray\n_reconstruct\n")
        self.memoize(obj)


def pickled(content):
    file = io.BytesIO()
    Python2Pickler(file, protocol=2).dump(content)
    return file.getvalue()


def files(count=6):
    """The eight files of the archive, of a few images each."""
    generator = np.random.default_rng(0)
    found = {}
    for name in (*BATCHES, "test_batch"):
        found[name] = pickled(
            {
                "batch_label": f"part {name}",
                "labels": generator.integers(0, 10, count).tolist(),
                "data": generator.integers(0, 256, (count, 3072), dtype=np.uint8),
                "filenames": [f"{name}_{number}.png" for number in range(count)],
            }
        )
    found["batches.meta"] = pickled({"num_cases_per_batch": 10000, "label_names": NAMES, "num_vis": 3072})
    found["readme.html"] = b"<p>"
    return found


def write_archive(path: Path, contents):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"{FOLDER}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path
