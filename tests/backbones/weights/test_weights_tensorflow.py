"""TensorFlow's checkpoints and frozen graphs: what TensorFlow wrote, what it never would, and damage."""

import gzip
import random
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_files as files
import torch

from segzoo.backbones import build_backbone, build_classifier
from segzoo.backbones.weights import recipe_of
from segzoo.backbones.weights.convert import convert_weights
from segzoo.backbones.weights.crc32c import crc32c
from segzoo.backbones.weights.deeplab import backbone_names
from segzoo.backbones.weights.recognise import read_weights
from segzoo.backbones.weights.source import ALIGNED_RECIPE
from segzoo.backbones.weights.tensorflow import read_tensorflow
from segzoo.errors import CheckpointError, ConfigError

CHECKPOINTS = ("xception41", "xception65", "xception71_dpc", "xception41_imagenet")
NORM = ("beta", "gamma", "moving_mean", "moving_variance")


@pytest.fixture(scope="module")
def oracles(shared: Path) -> Path:
    return shared / "oracles" / "tf_deeplab"


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    shapes = {
        "a/weights": (3, 3, 2, 5),
        "b/depthwise_weights": (3, 3, 4, 1),
        "b/BatchNorm/gamma": (700,),
        "c/biases": (1,),
    }
    return {name: generator.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}


def read(path: Path) -> dict[str, np.ndarray]:
    return read_tensorflow(path, path.name)


def same(left, right):
    assert left.keys() == right.keys()
    for name, array in left.items():
        assert array.shape == right[name].shape
        np.testing.assert_array_equal(array, right[name])


def checksum_by_bits(data: bytes) -> int:
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


def test_checksums_of_all_lengths():
    """The first three are those of RFC 3720, appendix B.4."""
    known = {bytes(32): 0x8A9136AA, b"\xff" * 32: 0x62A8AB43, bytes(range(32)): 0x46DD794E}
    for data, expected in known.items():
        assert crc32c(np.frombuffer(data, np.uint8)) == checksum_by_bits(data) == expected
    data = np.random.default_rng(1).integers(0, 256, 70_000, dtype=np.uint8)
    for length in (*range(70), 255, 256, 1000, 32_767, 32_768, 70_000):
        assert crc32c(data[:length]) == checksum_by_bits(data[:length].tobytes()), length


def test_what_tensorflow_wrote(oracles):
    """Every checksum of TensorFlow's agrees; the frozen graph has the same numbers."""
    for name in CHECKPOINTS:
        weights = read_weights(oracles / name)
        assert weights.naming == "tensorflow"
        assert weights.backbone == name.split("_")[0]
        assert weights.width == 0.0625
        assert weights.recipe == ALIGNED_RECIPE
    checkpoint = read(oracles / "xception65" / "model.ckpt.index")
    assert len(checkpoint) == 732
    same(read(oracles / "xception65" / "frozen_inference_graph.pb"), checkpoint)


def test_what_an_optimizer_adds_is_left_aside(oracles):
    variables = read(oracles / "xception41_imagenet" / "model.ckpt.index")
    assert len(variables) == 422
    index = (oracles / "xception41_imagenet" / "model.ckpt.index").read_bytes()
    for other in (b"Momentum", b"RMSProp", b"ExponentialMovingAverage", b"global_step"):
        assert other in index
        assert not any(other.decode() in name for name in variables)


@pytest.mark.parametrize("graph", ["xception41_imagenet", "xception65_imagenet", "xception71_imagenet"])
def test_full_width(graph, oracles):
    """The published graphs' own lists: each variable has a tensor of ours, of the same numbers in another order."""
    backbone = build_on_meta(graph.split("_")[0])
    rows = gzip.decompress((oracles / "variables" / f"{graph}.tsv.gz").read_bytes()).decode().splitlines()
    listed = {name: tuple(map(int, shape.split("x"))) for name, shape in (row.split("\t") for row in rows)}
    scope = f"{graph.split('_')[0].replace('xception', 'xception_')}/"
    names, state = backbone_names(backbone.full_plan), backbone.state_dict()
    assert names.keys() == {name for name in state if not name.endswith("num_batches_tracked")}
    assert {scope + name for name in names.values()} == listed.keys() - {
        f"{scope}logits/weights",
        f"{scope}logits/biases",
    }
    for ours, theirs in names.items():
        shape = listed[scope + theirs]
        order = (2, 3, 0, 1) if theirs.endswith("depthwise_weights") else (3, 2, 0, 1) if len(shape) == 4 else (0,)
        assert tuple(state[ours].shape) == tuple(shape[axis] for axis in order), ours


@pytest.mark.slow
def test_a_checkpoint_of_full_width(oracles, tmp_path):
    """165 MB: as many numbers as DeepLab's authors count."""
    rows = gzip.decompress((oracles / "variables" / "xception65_voc.tsv.gz").read_bytes()).decode().splitlines()
    generator = np.random.default_rng(0)
    shapes = {name: tuple(map(int, shape.split("x"))) for name, shape in (row.split("\t") for row in rows)}
    arrays = {name: generator.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}
    index = files.write_checkpoint(tmp_path / "model.ckpt", arrays)
    assert (tmp_path / "model.ckpt.data-00000-of-00001").stat().st_size == 4 * 41_258_213
    same(read(index), arrays)


def build_on_meta(name):
    with torch.device("meta"):
        return build_backbone(name)


def test_every_way_to_name_a_checkpoint(oracles, tmp_path):
    source = oracles / "xception41"
    content = {f"deeplab/{file.name}": file.read_bytes() for file in source.glob("model.ckpt*")}
    packed = files.archive(tmp_path / "published.tar.gz", {"deeplab/._model.ckpt.index": b"a Mac's", **content})
    plain = tmp_path / "plain.tar"
    plain.write_bytes(gzip.decompress(packed.read_bytes()))
    renamed = shutil.copytree(source, tmp_path / "renamed")
    (renamed / "model.ckpt.index").rename(renamed / "x-30.index")
    (renamed / "model.ckpt.data-00000-of-00001").rename(renamed / "x-30.data-00000-of-00001")
    expected = build_backbone("xception41", width=0.0625, weights=source).state_dict()
    before = sorted(tmp_path.rglob("*"))
    ways = [
        source / "model.ckpt",
        source / "model.ckpt.index",
        source / "model.ckpt.data-00000-of-00001",
        packed,
        plain,
    ]
    for path in (*ways, renamed, renamed / "x-30", str(source / "model.ckpt")):
        found = build_backbone("xception41", width=0.0625, weights=path).state_dict()
        assert all(torch.equal(found[name], value) for name, value in expected.items()), path
    assert sorted(tmp_path.rglob("*")) == before  # nothing is unpacked
    graph = {"f/frozen_inference_graph.pb": (oracles / "xception65" / "frozen_inference_graph.pb").read_bytes()}
    inside = read(files.archive(tmp_path / "graph.tar.gz", graph))
    same(inside, read(oracles / "xception65" / "model.ckpt.index"))


def test_as_weights_of_a_backbone(oracles, tmp_path, caplog):
    """Strictly, of any depth; what stands behind is left aside, and said so. Converted, it is the same."""
    source = oracles / "xception65"
    with caplog.at_level("INFO", "segzoo"):
        own = build_backbone("xception65", width=0.0625, weights=source).state_dict()
    assert "72 tensors behind the backbone are left aside" in caplog.text
    shallow = build_backbone(
        "xception65", width=0.0625, depth=3, weights=source / "frozen_inference_graph.pb"
    ).state_dict()
    assert all(torch.equal(own[name], value) for name, value in shallow.items() if name in own)
    convert_weights(source, tmp_path / "own.safetensors")
    converted = build_backbone("xception65", width=0.0625, weights=tmp_path / "own.safetensors").state_dict()
    assert all(torch.equal(own[name], value) for name, value in converted.items())
    assert recipe_of("xception65", source) == recipe_of("xception65", tmp_path / "own.safetensors")
    with pytest.raises(CheckpointError, match="holds weights of xception65, not of xception71"):
        build_backbone("xception71", width=0.0625, weights=source)
    with pytest.raises(CheckpointError, match="has another shape"):
        build_backbone("xception65", width=0.125, weights=source)
    with pytest.raises(CheckpointError, match="holds weights of xception65, not of xception$"):
        build_backbone("xception", width=0.0625, weights=source)


def test_a_classifier_of_1001_classes_has_none_of_them_first(oracles, tmp_path):
    variables = read(oracles / "xception41_imagenet" / "model.ckpt.index")
    generator = np.random.default_rng(0)
    weights, biases = (generator.standard_normal(shape, dtype=np.float32) for shape in ((1, 1, 128, 1001), (1001,)))
    logits = {"xception_41/logits/weights": weights, "xception_41/logits/biases": biases}
    index = files.write_checkpoint(tmp_path / "model.ckpt", variables | logits)
    classifier = build_classifier("xception41", 1000, width=0.0625, weights=index)
    np.testing.assert_array_equal(classifier.logits.weight.detach(), weights[0, 0].T[1:])
    np.testing.assert_array_equal(classifier.logits.bias.detach(), biases[1:])


def test_what_no_xception_of_deeplabs_is(arrays, tmp_path):
    with pytest.raises(
        CheckpointError, match="no Xception of DeepLab's in it, or several: its 4 variables are a/weights"
    ):
        read_weights(files.write_checkpoint(tmp_path / "other", arrays))
    one_norm = {
        "xception_65/entry_flow/block1/unit_1/xception_module/separable_conv1/depthwise_weights": arrays["a/weights"]
    }
    with pytest.raises(CheckpointError, match="built with regularize_depthwise"):
        read_weights(files.write_checkpoint(tmp_path / "regularized", one_norm))
    files.write_checkpoint(tmp_path / "several" / "a", arrays)
    files.write_checkpoint(tmp_path / "several" / "b", arrays)
    with pytest.raises(ConfigError, match=r"holds 2 files \*.index \(a.index, b.index, ...\). Name one of them"):
        read_weights(tmp_path / "several")


def test_shards_and_constants(arrays, tmp_path):
    same(read(files.write_checkpoint(tmp_path / "model.ckpt", arrays, shards=3)), arrays)
    for content in (True, False):
        (tmp_path / "graph.pb").write_bytes(files.graph(arrays, content=content))
        same(read(tmp_path / "graph.pb"), arrays)


REFUSED = {
    "negative dimension": ({"shape": files.shape_message((-1, 3, 2, 5))}, "shape that no weights have"),
    "huge dimensions": ({"shape": files.shape_message((2**31 - 1,) * 4)}, "do not agree"),
    "overflowing dimensions": ({"shape": files.shape_message((2**16,) * 4 + (90,))}, "do not agree"),
    "many dimensions": ({"shape": files.shape_message((1,) * 9)}, "shape that no weights have"),
    "other shape": ({"shape": files.shape_message((3, 3, 2, 4))}, "do not agree"),
    "another type": ({"dtype": 2}, "of type 2, not float32"),
    "text": ({"dtype": 7}, "of type 7, not float32"),
    "slices": ({"more": files.message((7, b"\x0a\x00"))}, "stored in slices"),
    "another shard": ({"shard": 1}, "lies in data file 1 of 1"),
    "beyond the data": ({"start": 10**9}, "the data end before a/weights does"),
    "far beyond the data": ({"start": 2**64 - 8}, "the data end before a/weights does"),
    "over another": ({"start": 4}, "lies over another variable"),
    "checksum": ({"checksum": 1}, "the checksum of a/weights does not agree"),
    "half a message": ({"more": b"\x3a\xff"}, "cut off|ends too early"),
    "unknown kind": ({"more": b"\x0b"}, "a field of kind 3"),
    "long number": ({"more": b"\x10" + b"\xff" * 10}, "longer than 64 bits"),
    "text for a number": ({"more": files.message((5, b"12"))}, "text where a number belongs"),
    "a number for text": ({"more": files.message((2, 5))}, "a number where text belongs"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_entries_that_are_refused(case, arrays, tmp_path):
    changes, reason = REFUSED[case]
    index = files.write_checkpoint(tmp_path / "model.ckpt", arrays, **{"a/weights": changes})
    refused(index, reason)


def refused(path, reason):
    with pytest.raises(CheckpointError, match=reason) as error:
        read_weights(path)
    assert len(error.value.problems) == 1
    assert error.value.problems[0].startswith(str(path))


def test_an_entry_that_nobody_needs_may_be_anything(arrays, tmp_path):
    counter = {"global_step": np.array([30], np.int64)}
    index = files.write_checkpoint(tmp_path / "model.ckpt", arrays | counter, global_step={"dtype": 7, "start": 10**9})
    same(read(index), arrays)


def test_tables_that_are_refused(arrays, tmp_path):
    index = files.write_checkpoint(tmp_path / "model.ckpt", arrays)
    good = index.read_bytes()
    row = (b"a/weights", files.entry(arrays["a/weights"], 0))
    tables = {
        "out of order": files.table([files.header(), row, row]),
        "no header": files.table([row]),
        "big-endian": files.table([files.header(order=1), row]),
        "claims 0 data files": files.table([files.header(0), row]),
        "claims 1000000 data files": files.table([files.header(10**6), row]),
        "can't decode": files.table([files.header(), (b"\xff/weights", row[1])]),
        "does not fit": files.table([files.header(), (b"a" * 5000 + b"/weights", row[1])]),
        "cut off or something else": good[:-1],
        "lies outside of it": files.varint(0) * 2 + files.varint(10**9) * 2 + bytes(100) + files.MAGIC,
        "it is damaged": bytes([good[0] ^ 1]) + good[1:],
    }
    tables["lies outside of it"] = (
        good[:-48] + (files.varint(0) * 2 + files.varint(2**62) * 2).ljust(40, b"\0") + files.MAGIC
    )
    for reason, content in tables.items():
        index.write_bytes(content)
        refused(index, reason)
    snappy = files.block([files.header(), row], kind=1)
    handle = files.block([(b"a/weights", files.varint(0) + files.varint(len(snappy) - 5))], interval=1)
    footer = files.varint(0) * 2 + files.varint(len(snappy)) + files.varint(len(handle) - 5)
    index.write_bytes(snappy + handle + footer.ljust(40, b"\0") + files.MAGIC)
    refused(index, "compressed")


def test_one_block_named_many_times_is_read_once(arrays, tmp_path):
    """Else an index of megabytes would claim billions of rows."""
    index = files.write_checkpoint(tmp_path / "model.ckpt", arrays)
    rows = files.block([files.header(), *((f"x{number:04}".encode(), b"") for number in range(2000))])
    handles = files.block(
        [(b"%06d" % number, files.varint(0) + files.varint(len(rows) - 5)) for number in range(20_000)]
    )
    footer = files.varint(0) * 2 + files.varint(len(rows)) + files.varint(len(handles) - 5)
    index.write_bytes(rows + handles + footer.ljust(40, b"\0") + files.MAGIC)
    refused(index, "out of order")


def test_missing_and_cut_data(arrays, tmp_path):
    index = files.write_checkpoint(tmp_path / "model.ckpt", arrays)
    data = tmp_path / "model.ckpt.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-1])
    refused(index, "the data end before c/biases does: they are cut off")
    data.unlink()
    refused(index, r"model.ckpt.data-00000-of-00001 is missing beside it; all files of a checkpoint belong together")
    data.mkdir()
    refused(index, "not a plain file")


def test_graphs_that_are_refused(arrays, tmp_path):
    path = tmp_path / "graph.pb"
    good = files.graph(arrays)

    def constant(shape, content, kind=1):
        tensor = files.message((1, kind), (2, files.shape_message(shape)), (4, content))
        value = files.message((1, b"value"), (2, files.message((8, tensor))))
        return files.message((1, files.message((1, b"a/weights"), (2, b"Const"), (5, value))))

    graphs = {
        "cut off": good[:-3],
        "holds a/weights twice": good + constant((1,), b"1234"),
        "claim more numbers than the file has": constant((2**20,), b"1234"),
        "do not agree": constant((3,), b"12345678"),
        "of type 2": constant((1,), b"12345678", kind=2),
        "shape that no weights have": constant((-1,), b"1234"),
    }
    for reason, content in graphs.items():
        path.write_bytes(content)
        refused(path, reason)
    path.write_bytes(
        files.graph(arrays) + constant((5, 5), np.float32(7).tobytes()).replace(b"a/weights", b"d/weights")
    )
    np.testing.assert_array_equal(read(path)["d/weights"], np.full((5, 5), 7, np.float32))


def test_archives(arrays, tmp_path):
    index = files.write_checkpoint(tmp_path / "model.ckpt", arrays)
    data = (tmp_path / "model.ckpt.data-00000-of-00001").read_bytes()
    members = {"model.ckpt.index": index.read_bytes(), "model.ckpt.data-00000-of-00001": data}
    before = sorted(tmp_path.iterdir())
    for place in ("/etc/", "../../", "a/b/"):  # only the last part of a name means anything, and nothing is written
        packed = files.archive(tmp_path / "some.tar.gz", {place + name: content for name, content in members.items()})
        same(read(packed), arrays)
        packed.unlink()
    assert sorted(tmp_path.iterdir()) == before

    def refuses(reason, members, *more):
        refused(files.archive(tmp_path / "some.tar.gz", members, *more), reason)

    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
        link = tarfile.TarInfo("x/model.ckpt.data-00000-of-00001")
        link.type, link.linkname = kind, "/etc/passwd"
        refuses("link or no file", {"model.ckpt.index": members["model.ckpt.index"]}, link)
    refuses("holds no model.ckpt.data-00000-of-00001", {"model.ckpt.index": members["model.ckpt.index"]})
    refuses("holds model.ckpt.index twice", {**members, "b/model.ckpt.index": b""})
    refuses(r"several checkpoints \(model.ckpt.index, other.index\)", {**members, "other.index": b""})
    refuses(r"no checkpoint \(\*.index\) and 0 frozen graphs", {"README": b"hello"})
    refuses("unpack to more than 4 times its size", {**members, "notes": bytes(10**7)})
    packed = files.archive(tmp_path / "whole.tar.gz", members).read_bytes()
    cut = tmp_path / "cut.tar.gz"
    for length in range(20, len(packed) - 8, 397):
        cut.write_bytes(packed[:length])
        outcome = try_to_read(cut)
        same(arrays if outcome is None else outcome, arrays)  # where only zeros are cut off, all of it is there


def mutants(content: bytes, count: int, seed: int):
    """A file with a few bytes of it changed, left out, put in, or its end cut off."""
    chosen = random.Random(seed)
    for _ in range(count):
        changed = bytearray(content)
        for _ in range(chosen.choice((1, 1, 2, 8))):
            at = chosen.randrange(len(changed) or 1)
            kind = chosen.randrange(5)
            if kind == 0 or not changed:
                changed[at : at + 1] = chosen.randbytes(1)
            elif kind == 1:
                changed[at] ^= 1 << chosen.randrange(8)
            elif kind == 2:
                del changed[at : at + chosen.choice((1, 4, 100))]
            elif kind == 3:
                changed[at:at] = chosen.randbytes(chosen.choice((1, 4)))
            else:
                del changed[max(at, 1) :]
        yield bytes(changed)


def check_mutants(arrays, tmp_path, count):
    """Refused in one line, or the numbers that were written; rows with fresh checksums, too."""
    arrays = {name: array[:5] for name, array in arrays.items()}
    index = files.write_checkpoint(tmp_path / "model.ckpt", arrays)
    data = tmp_path / "model.ckpt.data-00000-of-00001"
    graph = tmp_path / "graph.pb"
    graph.write_bytes(files.graph(arrays))
    for file, read_from in ((index, index), (data, index), (graph, graph)):
        good = file.read_bytes()
        for mutant in mutants(good, count // 4, len(good)):
            file.write_bytes(mutant)
            outcome = try_to_read(read_from)
            if outcome is not None and file is not graph:  # which has no checksums
                same(outcome, {name: arrays[name] for name in outcome})
        file.write_bytes(good)
    rows = b"".join(files.entry(array, 0) for array in arrays.values())
    for mutant in mutants(rows, count // 4, 7):
        index.write_bytes(files.table([files.header(), (b"a/weights", mutant), (b"b/weights", mutant[50:])]))
        outcome = try_to_read(index)
        assert sum(array.nbytes for array in (outcome or {}).values()) <= data.stat().st_size


def try_to_read(path):
    try:
        return read(path)
    except CheckpointError as error:
        lines = error.problems
    assert len(lines) == 1
    assert len(lines[0]) < 400
    return None


def test_mutants(arrays, tmp_path):
    check_mutants(arrays, tmp_path, 3000)


@pytest.mark.slow
def test_many_mutants_of_what_tensorflow_wrote(oracles, arrays, tmp_path):
    check_mutants(arrays, tmp_path, 20_000)
    source = shutil.copytree(oracles / "xception41", tmp_path / "own")
    index = source / "model.ckpt.index"
    expected, good = read(index), index.read_bytes()
    for mutant in mutants(good, 500, 3):
        index.write_bytes(mutant)
        outcome = try_to_read(index)
        if outcome is not None:
            same(outcome, {name: expected[name] for name in outcome})
