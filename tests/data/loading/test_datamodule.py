"""Data sets to batches."""

from collections.abc import Callable
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from segzoo.config.classification import ClassificationDataConfig
from segzoo.config.schema import DataConfig, SyntheticConfig
from segzoo.data import LabelSpace, build_dataset, register_dataset
from segzoo.data.class_balance import class_pixels
from segzoo.data.inspection.scan import scan_sample
from segzoo.data.loading.datamodule import ClassificationDataModule, SegmentationDataModule, worker_count
from segzoo.data.loading.sampling import StepBatchSampler
from segzoo.data.sample import Sample
from segzoo.errors import ConfigError, DataError
from segzoo.training.faults import faults_explained

SMALL = SyntheticConfig(train_images=11, val_images=5, size=(32, 40))


def data_module(num_workers: int = 0, steps: int = 6, seed: int = 0, **data: object) -> SegmentationDataModule:
    settings: dict[str, object] = {"name": "synthetic", "synthetic": SMALL, "batch_size": 4, "crop_size": (24, 24)}
    config = DataConfig(**{**settings, **data}, num_workers=num_workers)  # type: ignore[arg-type]
    return SegmentationDataModule(config, steps=steps, seed=seed, eval_batch_size=2)


def stream(module: SegmentationDataModule) -> list[tuple[list[str], bytes, bytes]]:
    """What training sees, comparable."""
    return [
        (list(batch["id"]), batch["image"].numpy().tobytes(), batch["mask"].numpy().tobytes())
        for batch in module.train_dataloader()
    ]


def test_training_batches_are_8_bit_tensors_of_crop_size() -> None:
    module = data_module()
    batches = list(module.train_dataloader())
    assert len(batches) == len(module.train_dataloader()) == 6
    for batch in batches:
        assert (batch["image"].shape, batch["image"].dtype) == ((4, 3, 24, 24), torch.uint8)
        assert (batch["mask"].shape, batch["mask"].dtype) == ((4, 24, 24), torch.uint8)


def test_training_ids_follow_the_sampler() -> None:
    module = data_module(seed=3)
    seen = [list(batch["id"]) for batch in module.train_dataloader()]
    expected = [[module.train_dataset.ids[key.index] for key in keys] for keys in StepBatchSampler(11, 4, 6, seed=3)]
    assert seen == expected


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # 3 workers on 2 cores, on purpose
def test_the_stream_is_the_same_with_0_1_and_3_workers() -> None:
    alone = stream(data_module(0))
    assert stream(data_module(1)) == alone
    assert stream(data_module(3)) == alone
    assert stream(data_module(0, seed=1)) != alone


STRONG = {"recipe": "strong", "extra": [{"name": "GaussNoise", "p": 0.7}, {"name": "Affine", "rotate": 20, "p": 0.5}]}


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_the_strong_stream_is_the_same_with_0_1_and_3_workers_and_no_sample_comes_twice() -> None:
    alone = stream(data_module(0, augmentation=STRONG))
    assert stream(data_module(1, augmentation=STRONG)) == alone
    assert stream(data_module(3, augmentation=STRONG)) == alone
    images = list(chain(*(batch["image"] for batch in data_module(0, 11, augmentation=STRONG).train_dataloader())))
    assert len({image.numpy().tobytes() for image in images}) == 44


@pytest.mark.parametrize("extra", ["", "strong"])
def test_a_data_set_of_whole_samples_gives_what_one_of_parts_gives(tmp_path: Path, extra: str) -> None:
    """Masks first and images then, or both at once: the same crops."""
    add_pairs(tmp_path, [(60, 70), (41, 33)])
    settings = {"name": "folder", "root": str(tmp_path), "batch_size": 2, "augmentation": STRONG if extra else {}}
    parts, samples = data_module(**settings), data_module(**settings)
    whole = samples.train_dataset
    rows = [whole[index] for index in range(2)]
    samples.train_dataset = RowsOfAUser(rows, whole.labels)
    assert stream(parts) == stream(samples)


class RowsOfAUser:
    def __init__(self, rows: list[object], labels: LabelSpace) -> None:
        self.rows, self.labels, self.ids = rows, labels, [row.id for row in rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> object:
        return self.rows[index]


def test_a_users_mask_of_another_size_is_named() -> None:
    module = data_module(synthetic=SyntheticConfig(train_images=4, val_images=1, size=(32, 40)))
    row = module.train_dataset[0]
    rows = [Sample(row.image, row.mask[:30], f"row {index}") for index in range(4)]
    module.train_dataset = RowsOfAUser(rows, module.labels)
    with pytest.raises(DataError, match=r"row \d: the image has \(32, 40\) pixels, but its mask \(30, 40\)"):
        next(iter(module.train_dataloader()))


def test_batches_lie_in_memory_as_convolutions_like_them() -> None:
    for workers in (0, 1):
        image = next(iter(data_module(workers).train_dataloader()))["image"]
        assert image.is_contiguous(memory_format=torch.channels_last)


def test_how_many_processes_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def count(cores: int, gpus: int, world_size: int = 1, **data: object) -> int:
        monkeypatch.setattr("segzoo.data.loading.datamodule.available_cores", lambda: cores)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        return worker_count(DataConfig(**{"name": "folder", **data}), world_size)  # type: ignore[arg-type]

    assert [count(cores, 0) for cores in (1, 2, 16)] == [0, 1, 1]
    assert [count(cores, 1) for cores in (1, 4, 16)] == [1, 4, 8]
    assert count(16, 4, world_size=4) == count(16, 4, world_size=8) == 4  # the second on two machines
    assert (count(16, 1, num_workers=0), count(16, 1, name="synthetic")) == (0, 0)


def test_samples_are_augmented_differently_in_each_epoch_and_from_each_other() -> None:
    batches = data_module(steps=11, crop_size=(12, 12)).train_dataloader()
    images = list(chain(*(batch["image"] for batch in batches)))
    assert len({image.numpy().tobytes() for image in images}) == 44


@pytest.mark.parametrize("start", [1, 4])
def test_a_resumed_stream_is_the_rest_of_the_whole_one(start: int) -> None:
    whole = stream(data_module())
    module = data_module()
    module.start_step = start
    assert stream(module) == whole[start:]


def test_processes_share_training_batches_and_validation_images() -> None:
    whole = [list(batch["id"]) for batch in data_module().train_dataloader()]
    shares, val_ids = [], []
    for rank in range(2):
        module = data_module()
        module.trainer = SimpleNamespace(global_rank=rank, world_size=2)  # type: ignore[assignment]
        shares.append([list(batch["id"]) for batch in module.train_dataloader()])
        val_ids += [item["id"] for items in module.val_dataloader() for item in items]
    assert [first + second for first, second in zip(*shares, strict=True)] == whole
    assert sorted(val_ids) == sorted(data_module().val_dataset.ids)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_validation_gives_lists_of_whole_images_in_order(num_workers: int) -> None:
    module = data_module(num_workers)
    batches = list(module.val_dataloader())
    assert [len(batch) for batch in batches] == [2, 2, 1]
    items = list(chain(*batches))
    assert [item["id"] for item in items] == list(module.val_dataset.ids)
    sample = module.val_dataset[0]
    np.testing.assert_array_equal(items[0]["image"].permute(1, 2, 0).numpy(), sample.image)
    np.testing.assert_array_equal(items[0]["mask"].numpy(), sample.mask)


def add_pairs(root: Path, sizes: list[tuple[int, int]]) -> None:
    """A folder data set of two classes whose images have these sizes, the same in both splits."""
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for index, size in enumerate(sizes):
            mask = np.zeros(size, np.uint8)
            mask[0, 0] = 1
            Image.fromarray(np.repeat(mask[..., None], 3, 2)).save(root / split / "images" / f"{index}.png")
            Image.fromarray(mask).save(root / split / "masks" / f"{index}.png")


def test_validation_images_may_differ_in_size(tmp_path: Path) -> None:
    add_pairs(tmp_path, [(20, 30), (41, 17)])
    module = data_module(name="folder", root=str(tmp_path), batch_size=2)
    (items,) = module.val_dataloader()
    assert [tuple(item["image"].shape) for item in items] == [(3, 20, 30), (3, 41, 17)]
    assert next(iter(module.train_dataloader()))["image"].shape == (2, 3, 24, 24)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_loading_leaves_the_global_random_numbers_alone(num_workers: int) -> None:
    module = data_module(num_workers)
    before = torch.get_rng_state()
    next(iter(module.train_dataloader()))
    next(iter(module.val_dataloader()))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_file_that_breaks_later_is_one_line_from_any_process(tmp_path: Path, num_workers: int) -> None:
    add_pairs(tmp_path, [(20, 30), (41, 17)])
    module = data_module(num_workers, name="folder", root=str(tmp_path), batch_size=2)
    for split in ("train", "val"):
        (tmp_path / split / "images" / "1.png").write_bytes(b"")
    for loader in (module.train_dataloader(), module.val_dataloader()):
        with pytest.raises(DataError) as caught:
            list(loader)
        (line,) = caught.value.problems
        assert line.endswith("images/1.png: empty file")
        assert "\n" not in line


def test_too_few_training_samples_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.batch_size: 12 is more than the 11 samples.*11 or less"):
        data_module(batch_size=12)
    assert len(stream(data_module(batch_size=11))) == 6


@pytest.mark.usefixtures("own_parts")
def test_a_user_registers_a_data_set() -> None:
    class Own:
        def __init__(self, config: DataConfig, split: str) -> None:
            self.samples = build_dataset(config.model_copy(update={"name": "synthetic"}), split)
            self.labels = LabelSpace.from_names([f"{split}_{index}" for index in range(7)])
            self.ids = self.samples.ids

        def __len__(self) -> int:
            return len(self.samples)

        def __getitem__(self, index: int) -> Sample:
            return self.samples[index]

    register_dataset("of_a_user")(Own)
    with pytest.raises(DataError, match="different classes"):
        data_module(name="of_a_user")


def test_real_camvid_stream_is_the_same_with_workers(shared: Path) -> None:
    settings = {"name": "camvid", "root": str(shared / "data" / "camvid"), "crop_size": (64, 64), "steps": 3}
    assert stream(data_module(2, **settings)) == stream(data_module(0, **settings))  # type: ignore[arg-type]


class Broken:
    """A data set of one's own that fails at its samples."""

    labels = LabelSpace.from_names(["ground", "square"])
    ids = tuple(f"sample_{number}" for number in range(8))
    classes = tuple((number % 2,) for number in range(8))

    def __init__(self, fail: Callable[[], object]) -> None:
        self._fail = fail

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        return self._fail()  # type: ignore[return-value]

    def read_image(self, index: int) -> object:
        return self._fail()


class SensorError(Exception):
    def __init__(self, version: int, place: str) -> None:
        super().__init__(f"version {version}\nat {place}")


def raising(error: BaseException) -> Callable[[], object]:
    def fail() -> object:
        raise error

    return fail


FAILURES = {
    "RuntimeError": (raising(RuntimeError("sensor file has version 7")), "RuntimeError: sensor file has version 7"),
    "OSError": (raising(FileNotFoundError(2, "No such file", "x.bin")), "FileNotFoundError: [Errno 2] No such file: "),
    "KeyError": (raising(KeyError("depth")), "KeyError: 'depth'"),
    "error of its own": (raising(SensorError(7, "disk")), "SensorError: version 7"),
    "memory in its words": (
        raising(RuntimeError("out of memory on the gloo device")),
        "RuntimeError: out of memory on",
    ),
    "StopIteration": (raising(StopIteration()), "StopIteration: StopIteration"),
    "no sample": (lambda: None, "AttributeError: 'NoneType'"),
    "a sample of nonsense": (lambda: Sample("image", np.zeros((32, 32), np.uint8), "a"), "Error: "),
    "several problems": (raising(DataError(["first", "second"])), "first\nsecond"),
}


@pytest.mark.parametrize(
    ("kind", "num_workers"),
    [
        *((kind, 0) for kind in FAILURES),
        *((kind, 1) for kind in ("RuntimeError", "error of its own", "several problems")),
    ],
)
def test_errors_of_a_data_set_of_ones_own_come_as_they_are(kind: str, num_workers: int) -> None:
    fail, said = FAILURES[kind]
    data = data_module(num_workers)
    data.train_dataset = data.val_dataset = Broken(fail)
    for loader in (data.train_dataloader(), data.val_dataloader()):
        with pytest.raises(DataError) as caught, faults_explained():
            next(iter(loader))
        line = "\n".join(caught.value.problems)
        assert said in line
        assert "Traceback" not in line
        assert kind == "several problems" or line.startswith("sample_")
        assert len(caught.value.problems) == 1 + (kind == "several problems")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_errors_of_a_classifiers_data_set_come_as_they_are(num_workers: int, class_folder: Path) -> None:
    config = ClassificationDataConfig(
        name="image_folder", root=str(class_folder), batch_size=4, image_size=24, num_workers=num_workers
    )
    data = ClassificationDataModule(config, steps=2, seed=0, eval_batch_size=2)
    data.train_dataset = data.val_dataset = Broken(raising(RuntimeError("sensor file has version 7")))
    for loader in (data.train_dataloader(), data.val_dataloader()):
        with pytest.raises(DataError, match=r"^sample_\d: RuntimeError: sensor file has version 7 \(line \d+ of .*\)$"):
            next(iter(loader))


def test_errors_of_a_data_set_of_ones_own_outside_of_loaders_too() -> None:
    """Where class weights are counted, and in check-data."""
    broken = Broken(raising(RuntimeError("sensor file has version 7")))
    with pytest.raises(DataError, match=r"^sample_0: RuntimeError: sensor file has version 7 \(line \d+ of"):
        class_pixels(broken)
    assert "sample_3: RuntimeError: sensor file has version 7" in scan_sample(broken, 3).problems[0].line


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((24, 24, 4), "have 4 channels. Say so: data.channels=4"),
        ((24, 24, 1), "have 1 channels. Say so: data.channels=1"),
        ((24, 24), r"have the shape \(24, 24\) in place of \(H, W, C\)"),
    ],
)
@pytest.mark.usefixtures("own_parts")
def test_images_of_other_channels_are_refused_before_training(shape: tuple[int, ...], words: str) -> None:
    class Own:
        labels = LabelSpace.from_names(["a", "b"])
        ids = tuple(map(str, range(8)))

        def __len__(self) -> int:
            return 8

        def __getitem__(self, index: int) -> Sample:
            return Sample(np.zeros(shape, np.uint8), np.zeros((24, 24), np.uint8), self.ids[index])

    name = f"own_{'_'.join(map(str, shape))}"
    register_dataset(name)(lambda config, split: Own())
    with pytest.raises(ConfigError, match=f"data.channels: 3, but images of {name}, split train, {words}") as caught:
        data_module(name=name, synthetic=SyntheticConfig())
    assert len(caught.value.problems) == 1
