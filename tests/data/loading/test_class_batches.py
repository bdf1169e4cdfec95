"""Images and classes to batches."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

from segzoo.data.loading.datamodule import ClassificationDataModule
from segzoo.data.loading.items import CroppedDataset, Mixup
from segzoo.data.loading.sampling import StepBatchSampler
from segzoo.data.transforms.classification import TrainView
from segzoo.errors import ConfigError, DataError

STRONG = {"rotation": 20.0, "shear": 10.0, "zoom": 0.2, "color": 0.3, "rand_augment": 9}
MIXED = {**STRONG, "mixup": 0.4}


@pytest.fixture(scope="module")
def root(tmp_path_factory, make_images):
    folder = tmp_path_factory.mktemp("animals")
    make_images(folder / "train", [f"{name}/{number}.png" for name in ("cat", "dog", "cow") for number in range(4)])
    make_images(folder / "val", [f"{name}/{number}.png" for name in ("cat", "cow") for number in range(3)])
    return folder


@pytest.fixture(scope="module")
def several(tmp_path_factory, make_images):
    folder = tmp_path_factory.mktemp("several")
    make_images(folder, [f"{number}.png" for number in range(4)])
    for split in ("train", "val"):
        (folder / f"{split}.csv").write_text("file,label\n0.png,dog;cat\n1.png,\n2.png,cat\n3.png,sofa\n")
    return folder


@pytest.fixture
def module(root, data_config):
    def make(steps=5, seed=0, num_workers=0, batch_size=4, start_step=0, process=(0, 1), augmentation=None, **keys):
        config = data_config(
            **{"name": "image_folder", "root": str(root), **keys},
            batch_size=batch_size,
            num_workers=num_workers,
            augmentation=augmentation or {},
        )
        made = ClassificationDataModule(config, steps=steps, seed=seed, eval_batch_size=4)
        made.start_step = start_step
        made.trainer = SimpleNamespace(global_rank=process[0], world_size=process[1])
        return made

    return make


def stream(made):
    return [
        (batch["id"], batch["image"].numpy().tobytes(), batch["target"].numpy().tobytes())
        for batch in made.train_dataloader()
    ]


def test_batches_are_8_bit_images_with_class_numbers_in_the_samplers_order(module):
    made = module(seed=3)
    expected = list(StepBatchSampler(12, 4, 5, seed=3))
    batches = list(made.train_dataloader())
    assert len(batches) == len(made.train_dataloader()) == 5
    for batch, keys in zip(batches, expected, strict=True):
        assert batch.keys() == {"image", "target", "id"}
        assert (batch["image"].shape, batch["image"].dtype) == ((4, 3, 16, 20), torch.uint8)
        assert batch["image"].is_contiguous(memory_format=torch.channels_last)
        assert batch["id"] == [made.train_dataset.ids[key.index] for key in keys]
        assert batch["target"].tolist() == [made.train_dataset.classes[key.index][0] for key in keys]
    assert made.labels.names == ("cat", "cow", "dog")


@pytest.mark.parametrize("augmentation", [STRONG, MIXED], ids=["strong", "mixed"])
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_the_stream_depends_on_the_seed_and_the_step_alone(module, augmentation):
    alone = stream(module(augmentation=augmentation))
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    assert stream(module(augmentation=augmentation)) == alone
    assert stream(module(augmentation=augmentation, num_workers=2)) == alone
    assert stream(module(augmentation=augmentation, start_step=3)) == alone[3:]
    assert stream(module(augmentation=augmentation, seed=1)) != alone
    assert len({image for _, image, _ in alone}) == 5


def test_each_epoch_shows_other_crops_of_the_same_images(module):
    batches = list(module(steps=6).train_dataloader())  # two epochs of twelve images
    ids = [name for batch in batches for name in batch["id"]]
    assert sorted(ids[:12]) == sorted(ids[12:])
    assert len({image.numpy().tobytes() for batch in batches for image in batch["image"]}) == 24


@pytest.mark.parametrize("augmentation", [STRONG, MIXED], ids=["strong", "mixed"])
def test_two_processes_see_what_one_sees(module, augmentation):
    alone = list(module(augmentation=augmentation).train_dataloader())
    halves = [list(module(augmentation=augmentation, process=(rank, 2)).train_dataloader()) for rank in (0, 1)]
    for whole, *parts in zip(alone, *halves, strict=True):
        assert whole["id"] == [name for part in parts for name in part["id"]]
        for key in ("image", "target"):
            assert torch.equal(whole[key], torch.cat([part[key] for part in parts]))


def test_mixup_blends_each_image_with_the_next(module):
    made = module(augmentation=MIXED)
    plain = CroppedDataset(made.train_dataset, TrainView(made.config), 0)
    shares = []
    for batch, keys in zip(made.train_dataloader(), StepBatchSampler(12, 4, 5, seed=0), strict=True):
        assert (batch["target"].shape, batch["target"].dtype) == ((4, 3), torch.float32)
        assert torch.allclose(batch["target"].sum(1), torch.ones(4))
        items = [plain[key] for key in keys]
        for place in range(4):
            first, second = items[place], items[(place + 1) % 4]
            a, b = int(first["target"]), int(second["target"])
            if a == b:
                assert batch["target"][place, a] == 1
                continue
            share = float(batch["target"][place, a])
            assert float(batch["target"][place, b]) == pytest.approx(1 - share, abs=1e-6)
            blended = share * first["image"].double() + (1 - share) * second["image"].double()
            assert (batch["image"][place] - blended).abs().max() <= 0.501
            shares.append(share)
    assert len(set(shares)) > 5


def test_shares_of_mixup_follow_the_beta_distribution():
    mixup = Mixup(0.4, 2)
    items = [
        {"image": torch.zeros(1, 1, 1), "target": torch.tensor(number % 2), "id": "", "seed": number}
        for number in range(401)
    ]
    batch = mixup(items)
    own = batch["target"][torch.arange(400), torch.arange(400) % 2].numpy()
    assert stats.kstest(own, stats.beta(0.4, 0.4).cdf).pvalue > 0.01


def test_validation_shows_every_image_once_over_all_processes(module):
    for processes in (1, 2, 5):
        batches = [batch for rank in range(processes) for batch in module(process=(rank, processes)).val_dataloader()]
        ids = sorted(name for batch in batches for name in batch["id"])
        assert ids == sorted(module().val_dataset.ids)
    alone, *_ = module().val_dataloader()
    assert (alone["image"].shape, alone["target"].dtype) == ((4, 3, 16, 20), torch.int64)
    assert list(module(process=(6, 7)).val_dataloader()) == [[]]


def test_several_classes_are_rows_of_zeros_and_ones(module, several):
    made = module(name="csv", root=str(several), csv={"multi_label": True})
    assert made.labels.names == ("cat", "dog", "sofa")
    (batch,) = made.val_dataloader()
    assert batch["target"].tolist() == [[1, 1, 0], [0, 0, 0], [1, 0, 0], [0, 0, 1]]
    assert batch["target"].dtype == torch.float32
    mixed = next(
        iter(module(name="csv", root=str(several), csv={"multi_label": True}, augmentation=MIXED).train_dataloader())
    )
    assert mixed["target"].shape == (4, 3)
    assert ((mixed["target"] > 0) & (mixed["target"] < 1)).any()


def test_a_damaged_image_is_named(module, root, tmp_path, make_images):
    make_images(tmp_path / "train", ["cat/0.png", "cat/1.png"])
    make_images(tmp_path / "val", ["cat/0.png"])
    (tmp_path / "train/cat/1.png").write_bytes((tmp_path / "train/cat/0.png").read_bytes()[:500])
    with pytest.raises(DataError, match=r"cat/1.png: damaged or unreadable"):
        list(module(root=str(tmp_path), batch_size=2).train_dataloader())


def test_more_images_in_a_batch_than_there_are_is_refused(module):
    with pytest.raises(ConfigError, match="data.batch_size: 13 is more than the 12 samples"):
        module(batch_size=13)
