"""Losses of classes that are decided each on its own, against torch, torchvision and NumPy."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import sigmoid_focal_loss

from segzoo.config.schema import LossConfig
from segzoo.data.reading.labels import LabelSpace
from segzoo.errors import ConfigError
from segzoo.tasks.losses import build_loss, loss_weight_of

CLASSES = 4
LABELS = LabelSpace.from_names([f"class_{index}" for index in range(CLASSES)], multi_label=True)
WEIGHTS = (0.5, 1.0, 2.0, 7.0)
LOSSES = {
    "binary_cross_entropy": {"name": "binary_cross_entropy"},
    "weighted": {"name": "binary_cross_entropy", "class_weights": WEIGHTS},
    "focal": {"name": "focal", "focal": {"mode": "sigmoid", "alpha": 0.3}},
    "dice": {"name": "dice", "dice": {"mode": "sigmoid", "smooth": 1.0}},
    "sum": {"name": "binary_cross_entropy", "add": {"dice": 0.5}, "dice": {"mode": "sigmoid"}},
}
every_loss = pytest.mark.parametrize("options", LOSSES.values(), ids=LOSSES)


def make_loss(labels=LABELS, **options) -> nn.Module:
    return build_loss(LossConfig.model_validate(options), labels)


@pytest.fixture
def batch():
    """Logits and a target (2, K, 6, 7) without class 1, a quarter of its decisions ignored."""
    generator = torch.Generator().manual_seed(5)
    logits = 2 * torch.randn(2, CLASSES, 6, 7, generator=generator)
    target = torch.randint(0, 2, logits.shape, generator=generator, dtype=torch.uint8)
    target[:, 1] = 0
    target[torch.rand(target.shape, generator=generator) < 0.25] = 255
    return logits, target


def of_class(logits, target, index):
    counted = target[:, index] != 255
    return logits[:, index][counted], target[:, index][counted].float()


def test_binary_cross_entropy_is_torchs(batch):
    logits, target = batch
    counted = target != 255
    expected = CLASSES * nn.BCEWithLogitsLoss()(logits[counted], target[counted].float())
    torch.testing.assert_close(make_loss(name="binary_cross_entropy")(*batch), expected)


def test_class_weights_weigh_each_classs_decisions(batch):
    total = pixels = 0.0
    for index, weight in enumerate(WEIGHTS):
        scores, truth = of_class(*batch, index)
        total += weight * nn.BCEWithLogitsLoss(reduction="sum")(scores, truth)
        pixels += weight * len(truth)
    loss = make_loss(**LOSSES["weighted"])
    torch.testing.assert_close(loss(*batch), CLASSES * total / pixels)
    assert float(loss_weight_of(loss, batch[1], 255)) == pytest.approx(pixels / CLASSES)


@pytest.mark.parametrize("alpha", [None, 0.3])
def test_focal_is_torchvisions(alpha, batch):
    logits, target = batch
    counted = target != 255
    losses = sigmoid_focal_loss(logits, target.where(counted, 0).float(), -1 if alpha is None else alpha, gamma=2)
    focal = {"mode": "sigmoid", "alpha": alpha}
    torch.testing.assert_close(make_loss(name="focal", focal=focal)(*batch), CLASSES * losses[counted].mean())


@pytest.mark.parametrize("smooth", [0.0, 3.0])
def test_dice_in_numpy(smooth, batch):
    parts = []
    for index in (0, 2, 3):  # the truth lacks class 1
        scores, truth = (values.double().numpy() for values in of_class(*batch, index))
        chance = 1 / (1 + np.exp(-scores))
        parts.append(1 - (2 * (chance * truth).sum() + smooth) / (chance.sum() + truth.sum() + smooth))
    dice = {"mode": "sigmoid", "smooth": smooth}
    np.testing.assert_allclose(make_loss(name="dice", dice=dice)(*batch), np.mean(parts), rtol=1e-5)


@every_loss
def test_one_class_a_pixel_gives_the_loss_of_single_label_masks(options):
    """But with class weights, which weigh pixels by their class there, and decisions here."""
    logits = torch.randn(2, CLASSES, 5, 5)
    classes = torch.randint(0, CLASSES, (2, 5, 5))
    planes = F.one_hot(classes, CLASSES).movedim(-1, 1).to(torch.uint8)
    ignored = torch.rand(classes.shape) < 0.2
    planes = planes.where(~ignored.unsqueeze(1), 255)
    options = {key: value for key, value in options.items() if key != "class_weights"}
    single = make_loss(LabelSpace.from_names(LABELS.names), **options)(logits, classes.where(~ignored, 255))
    torch.testing.assert_close(make_loss(**options)(logits, planes), single)


@every_loss
def test_ignored_decisions_have_no_say(options, batch):
    logits, target = batch
    ignored = target == 255
    logits.requires_grad_()
    loss = make_loss(**options)
    value = loss(logits, target)
    value.backward()
    assert not logits.grad[ignored].any()
    assert logits.grad[~ignored].any()
    changed = torch.where(ignored, torch.randn_like(logits) * 30, logits.detach())
    assert torch.equal(loss(changed, target), value.detach())


@every_loss
def test_all_ignored_is_zero_with_finite_gradients(options):
    logits = torch.randn(1, CLASSES, 3, 3, requires_grad=True)
    loss = make_loss(**options)(logits, torch.full((1, CLASSES, 3, 3), 255, dtype=torch.uint8))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.isfinite().all()


@every_loss
def test_parts_weighed_by_their_shares_are_the_whole(options, batch):
    """What several processes rely on; Dice is no mean over decisions."""
    if "dice" in (options["name"], *options.get("add", {})):
        return
    loss = make_loss(**options)
    parts = [
        (loss(*part), loss_weight_of(loss, part[1], 255)) for part in zip(*(x.split(1) for x in batch), strict=True)
    ]
    whole = sum(value * share for value, share in parts) / sum(share for _, share in parts)
    torch.testing.assert_close(whole, loss(*batch))


def test_one_class_is_softmax_over_it_and_a_background():
    """A sigmoid of one logit is a softmax over two, the other of them 0."""
    logits = torch.randn(2, 1, 5, 5)
    target = torch.randint(0, 2, (2, 1, 5, 5), dtype=torch.uint8)
    single = make_loss(LabelSpace.from_names(["cell"], multi_label=True), name="binary_cross_entropy")(logits, target)
    both = make_loss(LabelSpace.from_names(["background", "cell"]), name="cross_entropy")
    pair = torch.cat([torch.zeros_like(logits), logits], 1)
    torch.testing.assert_close(single, both(pair, target[:, 0].long()))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"name": "cross_entropy"}, ["cross_entropy"]),
        ({"name": "binary_cross_entropy", "add": {"lovasz": 1.0}}, ["lovasz"]),
        ({"name": "dice"}, ["dice with mode softmax"]),
        ({"name": "focal", "add": {"cross_entropy": 1.0}}, ["focal with mode softmax", "cross_entropy"]),
    ],
)
def test_losses_that_need_one_class_a_pixel_are_refused(options, named):
    with pytest.raises(ConfigError) as refused:
        make_loss(**options)
    assert len(refused.value.problems) == len(named)
    for line, name in zip(refused.value.problems, named, strict=True):
        assert f"{name} needs one class a pixel" in line
        assert "binary_cross_entropy" in line
