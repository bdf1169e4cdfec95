"""Checkpoints, frozen graphs and archives as TensorFlow writes them, also such as it never would."""

import gzip
import io
import struct
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from segzoo.backbones.weights.crc32c import masked_crc32c

MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)
Arrays = Mapping[str, np.ndarray]


def varint(value: int) -> bytes:
    value &= 2**64 - 1
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def message(*fields: tuple[int, int | bytes]) -> bytes:
    """Fields of a protocol buffer; zeros are left out, as proto3 does."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value) if value else b""
        else:
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


def shape_message(shape: tuple[int, ...]) -> bytes:
    return message(*((2, message((1, size))) for size in shape))


def masked(data: bytes) -> int:
    return masked_crc32c(np.frombuffer(data, np.uint8))


def entry(array: np.ndarray, offset: int, **changes: Any) -> bytes:
    """A BundleEntryProto; `changes` are its fields by name, and `more`, bytes behind it."""
    data = np.ascontiguousarray(array)
    fields = {
        "dtype": {"float32": 1, "float64": 2, "int64": 9}[array.dtype.name],
        "shape": shape_message(array.shape),
        "shard": 0,
        "start": offset,
        "size": array.nbytes,
        "checksum": masked_crc32c(data.reshape(-1).view(np.uint8)),
        "more": b"",
    } | changes
    numbers = [(number, fields[key]) for number, key in enumerate(("dtype", "shape", "shard", "start", "size"), 1)]
    return message(*numbers) + b"\x35" + struct.pack("<I", fields["checksum"]) + fields["more"]


def block(rows: list[tuple[bytes, bytes]], *, interval: int = 16, kind: int = 0) -> bytes:
    """A block of LevelDB's, with its kind and checksum."""
    out, restarts, before = b"", [], b""
    for number, (key, value) in enumerate(rows):
        shared = 0
        if number % interval:
            shared = next((i for i, pair in enumerate(zip(before, key, strict=False)) if pair[0] != pair[1]), None)
            shared = min(len(before), len(key)) if shared is None else shared
        else:
            restarts.append(len(out))
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    out += b"".join(struct.pack("<I", restart) for restart in restarts or [0])
    out += struct.pack("<I", len(restarts) or 1) + bytes([kind])
    return out + struct.pack("<I", masked(out))


def table(rows: list[tuple[bytes, bytes]], *, rows_in_block: int = 40) -> bytes:
    """A table of LevelDB's."""
    out, handles = b"", []
    for start in range(0, len(rows), rows_in_block):
        part = rows[start : start + rows_in_block]
        written = block(part)
        handles.append((part[-1][0], varint(len(out)) + varint(len(written) - 5)))
        out += written
    empty, index = block([]), block(handles, interval=1)
    footer = varint(len(out)) + varint(len(empty) - 5) + varint(len(out) + len(empty)) + varint(len(index) - 5)
    return out + empty + index + footer.ljust(40, b"\0") + MAGIC


def header(shards: int = 1, order: int = 0) -> tuple[bytes, bytes]:
    return b"", message((1, shards), (2, order), (3, message((1, 1))))


def write_checkpoint(prefix: Path, arrays: Arrays, *, shards: int = 1, **changes: Mapping[str, Any]) -> Path:
    """Write a checkpoint.

    Args:
        prefix: of its files.
        arrays: variables by name.
        shards: data files.
        changes: of entries, by name, see `entry`.
    """
    rows = [header(shards)]
    data = [bytearray() for _ in range(shards)]
    for number, name in enumerate(sorted(arrays)):
        shard = number % shards
        wanted = {"shard": shard} | dict(changes.get(name, {}))
        rows.append((name.encode(), entry(arrays[name], len(data[shard]), **wanted)))
        data[shard] += np.ascontiguousarray(arrays[name]).tobytes()
    prefix.parent.mkdir(exist_ok=True)
    for shard, content in enumerate(data):
        prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{shards:05d}").write_bytes(content)
    index = prefix.with_name(f"{prefix.name}.index")
    index.write_bytes(table(rows))
    return index


def graph(arrays: Arrays, *, content: bool = True) -> bytes:
    """A frozen graph; without `content`, numbers stand one by one."""
    nodes = [message((1, b"ImageTensor"), (2, b"Placeholder"))]
    for name, array in arrays.items():
        numbers = (4, array.tobytes()) if content else (5, array.tobytes())
        tensor = message((1, 1), (2, shape_message(array.shape)), numbers)
        attributes = [
            (5, message((1, b"dtype"), (2, message((6, 1))))),
            (5, message((1, b"value"), (2, message((8, tensor))))),
        ]
        nodes.append(message((1, name.encode()), (2, b"Const"), *attributes))
        nodes.append(message((1, f"{name}/read".encode()), (2, b"Identity"), (3, name.encode())))
    return b"".join(message((1, node)) for node in nodes)


def archive(path: Path, members: Mapping[str, bytes], *more: tarfile.TarInfo) -> Path:
    """A `.tar.gz` of members by name, and of headers without content."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as opened:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            opened.addfile(info, io.BytesIO(content))
        for info in more:
            opened.addfile(info)
    path.write_bytes(gzip.compress(packed.getvalue(), mtime=0))
    return path
