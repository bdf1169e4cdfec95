"""TensorFlow's variables without TensorFlow: V2 checkpoints and the constants of frozen graphs.

A checkpoint is `PREFIX.index`, a table of LevelDB's that says where each variable lies, and their numbers,
`PREFIX.data-00000-of-00001`. A frozen graph, `.pb`, holds them as constants in a protocol buffer. Either may lie in a
`.tar.gz`, as published ones do; nothing is unpacked from it to the disk. Nothing that a file says is executed or opened
as a path; sizes are held against the file's own, and each checksum is compared.

Only variables of layers are read, by their plain names. What an optimiser or a moving average adds to these, such as
`weights/Momentum`, is left aside, as DeepLab's own training leaves it.

Source: TensorFlow's `tensor_bundle.proto`, `tensor.proto`, `graph.proto` and `node_def.proto`; LevelDB's
`doc/table_format.md`.
"""

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from segzoo.backbones.weights.crc32c import masked_crc32c
from segzoo.backbones.weights.hdf5 import MOST_TIMES
from segzoo.errors import CheckpointError, ConfigError, first_line
from segzoo.fetching.archive import DAMAGE, open_tar

LAYER_VARIABLES = ("weights", "depthwise_weights", "biases", "gamma", "beta", "moving_mean", "moving_variance")
"""Last parts of the names that are read."""

_MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)
_FOOTER = 48  # bytes
_LONGEST_INDEX = 64 * 2**20
_LONGEST_NAME = 4096
_MOST_SHARDS = 1000
_MOST_DIMENSIONS = 8
_FLOAT32, _FLOAT32_BYTES = 1, 4
_DATA = re.compile(r"(?P<prefix>.+)\.data-\d{5}-of-\d{5}", re.DOTALL)
_GRAPH_START = re.compile(
    rb"\n[\x80-\xff]{0,4}[\x00-\x7f]\n[\x01-\x7f][A-Za-z0-9.]"
)  # a node that begins with its name
_GZIP = b"\x1f\x8b"
_TAR = slice(257, 262), b"ustar"
_ALLOWANCE = 2**20  # bytes on top of what an archive may unpack to, for small ones of text
_HEADER = 512  # bytes that each member of a tar has before it

Bytes = NDArray[np.uint8]
Variables = dict[str, NDArray[np.float32]]
Message = dict[int, list[int | memoryview]]


def find_tensorflow(path: Path) -> Path | None:
    """The file that a path means where it is one of TensorFlow's by its name: an index, or a frozen graph.

    Args:
        path: the prefix of a checkpoint, one of its files, or a folder with one checkpoint or else one frozen graph.

    Raises:
        ConfigError: a folder with several.
    """
    data = _DATA.fullmatch(path.name)
    if data is not None:
        return path.with_name(f"{data['prefix']}.index")
    if path.is_dir():
        for suffix in (".index", ".pb"):
            found = sorted(file for file in path.glob(f"*{suffix}") if not file.name.startswith("._"))
            if len(found) > 1:
                names = ", ".join(file.name for file in found[:3])
                raise ConfigError(f"{path}: holds {len(found)} files *{suffix} ({names}, ...). Name one of them.")
            if found:
                return found[0]
    index = path.with_name(f"{path.name}.index")
    return index if path.name and not path.exists() and index.is_file() else None


def is_tensorflow(file: Path) -> bool:
    """Whether a file is a checkpoint's index, a frozen graph, or an archive."""
    try:
        start = _start(file)
    except OSError:
        return False
    return _is_archive(start) or bool(_GRAPH_START.match(start)) or file.suffix == ".index" or _ends_in_magic(file)


def read_tensorflow(file: Path, source: str) -> Variables:
    """The variables of layers, float32 in TensorFlow's layout, by their names.

    Args:
        file: an index, beside its data; a frozen graph; or an archive with either.
        source: what to call it in messages.

    Raises:
        CheckpointError: damaged, cut off, hostile, or of a kind that is not read.
    """
    try:
        start = _start(file)
        if _is_archive(start):
            return _read_archive(file)
        if _GRAPH_START.match(start):
            return _read_graph(_mapped(file))
        with file.open("rb") as opened:
            index = opened.read(_LONGEST_INDEX + 1)
        prefix = file.name.removesuffix(".index")
        return _read_checkpoint(index, lambda shard: _mapped(file.with_name(f"{prefix}{shard}")))
    except (OSError, *DAMAGE) as error:
        raise CheckpointError(f"{source}: refused, because {_reason(error)}; nothing was executed.") from None


def _start(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(_TAR[0].stop)


def _is_archive(start: bytes) -> bool:
    return start.startswith(_GZIP) or start[_TAR[0]] == _TAR[1]


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{Path(str(error.filename)).name} is missing beside it; all files of a checkpoint belong together"
    return first_line(error)


def _ends_in_magic(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            opened.seek(-len(_MAGIC), 2)
            return opened.read() == _MAGIC
    except OSError:  # shorter, or not to be read
        return False


def _mapped(file: Path) -> Bytes:
    """A file's bytes, read when they are looked at."""
    if not file.is_file() and file.exists():
        raise ValueError(f"{file.name} is not a plain file")  # a pipe would be waited for
    return np.memmap(file, np.uint8, "r") if file.stat().st_size else np.zeros(0, np.uint8)


def _read_archive(archive: Path) -> Variables:
    """What is in a tar: a checkpoint, else a frozen graph."""
    members = _members(archive, lambda name: name.endswith(".index") or _DATA.fullmatch(name) is not None)
    indexes = [name for name in members if name.endswith(".index")]
    if len(indexes) > 1:
        raise ValueError(f"it holds several checkpoints ({', '.join(indexes[:3])})")
    if indexes:
        prefix = indexes[0].removesuffix(".index")

        def data(shard: str) -> Bytes:
            if prefix + shard not in members:
                raise ValueError(f"it holds no {prefix}{shard}")
            return np.frombuffer(members[prefix + shard], np.uint8)

        return _read_checkpoint(members[indexes[0]], data)
    members = _members(archive, lambda name: name.endswith(".pb"))
    if len(members) != 1:
        raise ValueError(f"it holds no checkpoint (*.index) and {len(members)} frozen graphs (*.pb)")
    return _read_graph(np.frombuffer(next(iter(members.values())), np.uint8))


def _members(archive: Path, is_wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """Members of a tar by the last part of their names; the rest of a name means nothing here."""
    found: dict[str, bytes] = {}
    room = MOST_TIMES * archive.stat().st_size + _ALLOWANCE
    with open_tar(archive) as (opened, _):
        for member in opened:
            room -= member.size + _HEADER
            if room < 0:
                raise ValueError(f"it would unpack to more than {MOST_TIMES} times its size, which no weights do")
            name = PurePosixPath(member.name).name
            if name.startswith("._") or not is_wanted(name):  # a Mac's notes beside a file begin so
                continue
            content = opened.extractfile(member) if member.isfile() else None
            if content is None:
                raise ValueError(f"{name} in it is a link or no file")
            if name in found:
                raise ValueError(f"it holds {name} twice")
            found[name] = content.read(member.size)
            if len(found[name]) != member.size:
                raise ValueError(f"it is cut off in {name}")
    return found


@dataclass(frozen=True)
class _Entry:
    """Where a variable lies: its shape, the shard, the bytes in it, and their checksum."""

    shape: tuple[int, ...]
    shard: int
    start: int
    size: int
    checksum: int


def _read_checkpoint(index: bytes, open_data: Callable[[str], Bytes]) -> Variables:
    """The variables that an index names.

    Args:
        index: its content.
        open_data: from the end of a data file's name to its content.
    """
    shards, entries = _parse_index(index)
    needed = {entry.shard for entry in entries.values()}
    data = {shard: open_data(f".data-{shard:05d}-of-{shards:05d}") for shard in sorted(needed)}
    ends = dict.fromkeys(needed, 0)
    for name, entry in sorted(entries.items(), key=lambda item: item[1].start):
        end = entry.start + entry.size
        if end > data[entry.shard].size:
            raise ValueError(f"the data end before {name} does: they are cut off")
        if entry.start < ends[entry.shard]:
            raise ValueError(f"{name} lies over another variable")
        ends[entry.shard] = end
    return {name: _variable(name, entry, data[entry.shard]) for name, entry in entries.items()}


def _variable(name: str, entry: _Entry, data: Bytes) -> NDArray[np.float32]:
    stored = data[entry.start : entry.start + entry.size]
    if masked_crc32c(stored) != entry.checksum:
        raise ValueError(f"the checksum of {name} does not agree: the data are damaged")
    return np.frombuffer(stored.tobytes(), "<f4").reshape(entry.shape)


def _parse_index(index: bytes) -> tuple[int, dict[str, _Entry]]:
    """The number of data files, and the variables of layers."""
    if len(index) > _LONGEST_INDEX:
        raise ValueError(f"its index is longer than {_LONGEST_INDEX} bytes")
    if len(index) < _FOOTER or not index.endswith(_MAGIC):
        raise ValueError("its index does not end as TensorFlow's do: it is cut off or something else")
    _, at = _handle(index, len(index) - _FOOTER)  # of the metaindex
    table, _ = _handle(index, at)
    rows = _in_order(
        row for _, handle in _rows(_block(index, table)) for row in _rows(_block(index, _handle(handle)[0]))
    )
    key, header = next(rows, (None, b""))
    if key != b"":
        raise ValueError("its index has no header")
    described = _message(header)
    shards = _number(described, 1)
    if _number(described, 2):
        raise ValueError("its numbers are big-endian")
    if not 1 <= shards <= _MOST_SHARDS:
        raise ValueError(f"its index claims {shards} data files")
    named = ((key.decode(), row) for key, row in rows)
    return shards, {name: _entry(name, row, shards) for name, row in named if _is_of_layer(name)}


def _is_of_layer(name: str) -> bool:
    return name.rpartition("/")[2] in LAYER_VARIABLES


def _entry(name: str, row: bytes, shards: int) -> _Entry:
    described = _message(row)
    if _number(described, 1) != _FLOAT32:
        raise ValueError(f"{name} is of type {_number(described, 1)}, not float32")
    if 7 in described:
        raise ValueError(f"{name} is stored in slices")
    shape = _shape(name, described.get(2, []))
    shard, start, size, checksum = (_number(described, field) for field in (3, 4, 5, 6))
    if shard >= shards:
        raise ValueError(f"{name} lies in data file {shard} of {shards}")
    if prod(shape) * _FLOAT32_BYTES != size:
        raise ValueError(f"{name} has the shape {shape} and {size} bytes, which do not agree")
    return _Entry(shape, shard, start, size, checksum)


def _handle(data: bytes, at: int = 0) -> tuple[tuple[int, int], int]:
    """Where a block lies, offset and size; and where what follows in `data` begins."""
    offset, at = _varint(data, at)
    size, at = _varint(data, at)
    return (offset, size), at


def _block(index: bytes, handle: tuple[int, int]) -> bytes:
    offset, size = handle
    end = offset + size
    if end + 5 > len(index) - _FOOTER:
        raise ValueError("a block of its index lies outside of it")
    kind, checksum = struct.unpack_from("<BI", index, end)
    if masked_crc32c(np.frombuffer(index, np.uint8, size + 1, offset)) != checksum:
        raise ValueError("the checksum of its index does not agree: it is damaged")
    if kind != 0:
        raise ValueError("its index is compressed, which TensorFlow has not done since version 1.2")
    return index[offset:end]


def _rows(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block; a key is what it shares with the one before, and the rest."""
    if len(block) < 4:
        raise ValueError("a block of its index is too short")
    end = len(block) - 4 - 4 * int(struct.unpack("<I", block[-4:])[0])
    at, key = 0, b""
    while at < end:
        shared, at = _varint(block, at)
        own, at = _varint(block, at)
        size, at = _varint(block, at)
        if shared > len(key) or at + own + size > end or shared + own > _LONGEST_NAME:
            raise ValueError("a row of its index does not fit")
        key = key[:shared] + block[at : at + own]
        yield key, block[at + own : at + own + size]
        at += own + size
    if at != end:
        raise ValueError("a block of its index does not end where it says")


def _in_order(rows: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """Rows whose keys ascend: so no block is read twice, however often it is named."""
    before: bytes | None = None
    for key, value in rows:
        if before is not None and key <= before:
            raise ValueError("the names in its index are out of order")
        before = key
        yield key, value


def _read_graph(graph: Bytes) -> Variables:
    """The constants that bear the names of variables."""
    variables: Variables = {}
    room = graph.size
    for field, node in _fields(graph.data):
        if field != 1 or isinstance(node, int):
            continue
        described = _message(node)
        name = _text(described, 1)
        if _text(described, 2) != "Const" or not _is_of_layer(name):
            continue
        if name in variables:
            raise ValueError(f"it holds {name} twice")
        shape, numbers = _constant(name, described)
        room -= prod(shape) * _FLOAT32_BYTES
        if room < 0:
            raise ValueError("its constants claim more numbers than the file has")
        variables[name] = np.array(np.broadcast_to(numbers, prod(shape))).reshape(shape)
    return variables


def _constant(name: str, node: Message) -> tuple[tuple[int, ...], NDArray[np.float32]]:
    """Shape and numbers of a constant; one number may stand for all."""
    attributes = (_message(pair) for pair in node.get(5, []))
    value = next((pair for pair in attributes if _text(pair, 1) == "value"), {})
    tensor = _submessage(_submessage(value, 2), 8)
    if _number(tensor, 1) != _FLOAT32:
        raise ValueError(f"{name} is of type {_number(tensor, 1)}, not float32")
    shape = _shape(name, tensor.get(2, []))
    content = b"".join(_bytes(part) for part in tensor.get(4, []))
    if not content:
        content = b"".join(struct.pack("<I", part) if isinstance(part, int) else part for part in tensor.get(5, []))
    if len(content) not in (prod(shape) * _FLOAT32_BYTES, _FLOAT32_BYTES):
        raise ValueError(f"{name} has the shape {shape} and {len(content)} bytes, which do not agree")
    return shape, np.frombuffer(content, "<f4")


def _shape(name: str, messages: list[int | memoryview]) -> tuple[int, ...]:
    """A TensorShapeProto: field 2, repeated, whose field 1 is a size."""
    dimensions = [_message(dimension) for message in messages for dimension in _message(message).get(2, [])]
    shape = tuple(_number(dimension, 1) for dimension in dimensions)
    if len(shape) > _MOST_DIMENSIONS or any(size >= 2**31 for size in shape):  # a negative one is above 2**63
        raise ValueError(f"{name} has a shape that no weights have")
    return shape


def _message(data: int | bytes | memoryview) -> Message:
    """The fields of a protocol buffer, all values of each."""
    found: Message = {}
    for field, value in _fields(memoryview(_bytes(data))):
        found.setdefault(field, []).append(value)
    return found


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Numbers of fields and their values; a value of a fixed length is a number too."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a message in it has a field of kind {kind}")
        if size > len(data) - at:
            raise ValueError("a message in it ends too early: it is cut off")
        content = data[at : at + size]
        yield tag >> 3, content if kind == 2 else int.from_bytes(content, "little")
        at += size


def _varint(data: bytes | memoryview, at: int) -> tuple[int, int]:
    """A number of variable length, and where what follows it begins."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("a number in it is cut off")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number in it is longer than 64 bits")


def _number(message: Message, field: int) -> int:
    """The last value of a field, as protocol buffers have it; 0 where there is none."""
    value = message.get(field, [0])[-1]
    if not isinstance(value, int):
        raise ValueError("a message in it has text where a number belongs")
    return value


def _text(message: Message, field: int) -> str:
    return str(_bytes(message.get(field, [memoryview(b"")])[-1]), "utf-8")


def _submessage(message: Message, field: int) -> Message:
    return _message(message.get(field, [memoryview(b"")])[-1])


def _bytes(value: int | bytes | memoryview) -> bytes | memoryview:
    if isinstance(value, int):
        raise ValueError("a message in it has a number where text belongs")
    return value
