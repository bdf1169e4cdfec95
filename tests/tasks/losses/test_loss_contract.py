"""What every loss promises, whatever its formula."""

import pytest
import torch
from torch import nn

from segzoo.config.schema import LossConfig
from segzoo.data.reading.labels import LabelSpace
from segzoo.errors import ConfigError, UnknownNameError
from segzoo.tasks.losses import LOSSES, SegmentationLoss, build_loss, loss_weight_of

WEIGHTS = (0.5, 1.0, 2.0, 0.0, 7.0)
EVERY_LOSS = [
    {},
    {"class_weights": WEIGHTS},
    {"label_smoothing": 0.1, "class_weights": WEIGHTS},
    {"hard_pixels": {"fraction": 0.3}, "class_weights": WEIGHTS},
    {"hard_pixels": {"threshold": 0.4, "min_kept": 7}},
    {"name": "binary_cross_entropy"},
    {"name": "binary_cross_entropy", "class_weights": WEIGHTS},
    {"name": "dice"},
    {"name": "dice", "dice": {"mode": "sigmoid", "smooth": 1.0}},
    {"name": "focal"},
    {"name": "focal", "focal": {"gamma": 0.5}, "class_weights": WEIGHTS},
    {"name": "focal", "focal": {"mode": "sigmoid", "alpha": 0.25}},
    {"name": "lovasz"},
    {"name": "lovasz", "lovasz": {"mode": "hinge", "per_image": True}},
    {"add": {"dice": 0.5, "lovasz": 0.25, "focal": 2.0}},
]
every_loss = pytest.mark.parametrize("options", EVERY_LOSS, ids=str)


def value_and_gradient(loss, logits, target):
    leaf = logits.clone().requires_grad_()
    value = loss(leaf, target)
    value.backward()
    return value.detach(), leaf.grad


def test_every_registered_loss_is_under_contract():
    assert {options.get("name", "cross_entropy") for options in EVERY_LOSS} == set(LOSSES)


@every_loss
def test_ignored_pixels_have_no_say(options, make_loss, batch):
    loss, (logits, target) = make_loss(**options), batch
    ignored = (target == 255).unsqueeze(1)
    changed = torch.where(ignored, 1e3 * torch.randn_like(logits), logits)
    value, gradient = value_and_gradient(loss, logits, target)
    other, other_gradient = value_and_gradient(loss, changed, target)
    assert value > 0
    assert torch.equal(value, other)
    assert torch.equal(gradient, other_gradient)
    assert not gradient.masked_select(ignored).any()
    assert gradient.masked_select(~ignored).any()


@every_loss
def test_more_ignored_pixels_change_nothing(options, make_loss, batch):
    loss, (logits, target) = make_loss(**options), batch
    wider = torch.cat([logits, torch.randn_like(logits)], dim=3)
    more = torch.cat([target, torch.full_like(target, 255)], dim=2)
    torch.testing.assert_close(loss(wider, more), loss(logits, target))


@every_loss
def test_all_ignored_is_zero_with_finite_gradients(options, make_loss, batch):
    value, gradient = value_and_gradient(make_loss(**options), batch[0], torch.full_like(batch[1], 255))
    assert value == 0
    assert not gradient.any()


@every_loss
@pytest.mark.parametrize("scale", [1e-3, 1e2, 1e4])
def test_extreme_logits_give_finite_values(options, scale, make_loss, batch):
    value, gradient = value_and_gradient(make_loss(**options), scale * batch[0], batch[1])
    assert value.isfinite()
    assert gradient.isfinite().all()


@every_loss
def test_computes_in_float32_from_bf16_logits_under_autocast_or_not(options, make_loss, batch):
    loss, (logits, target) = make_loss(**options), batch
    coarse = logits.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(coarse, target)
    for found in (value, loss(coarse, target)):
        assert found.dtype == torch.float32
        assert torch.equal(found, loss(coarse.float(), target))


@every_loss
def test_gradient_descent_lowers_it(options, make_loss, batch):
    loss, (logits, target) = make_loss(**options), batch
    value, gradient = value_and_gradient(loss, logits, target)
    assert loss(logits - 1e-3 * gradient / gradient.norm(), target) < value


@every_loss
def test_no_weights_of_its_own(options, make_loss):
    assert make_loss(**options).state_dict() == {}


@every_loss
def test_means_of_processes_combine_by_their_shares(options, make_loss, batch):
    """Exactly for means over pixels; a mined, Dice or Lovász loss counts every process alike or its own choice."""
    loss, (logits, target) = make_loss(**options), batch
    target[0, :4] = 255  # the two images differ in how many pixels count
    parts = [(loss(logits[i : i + 1], target[i : i + 1]), loss.loss_weight(target[i : i + 1])) for i in range(2)]
    if {"dice", "lovasz"}.isdisjoint((options.get("name"), *options.get("add", {}))) and "hard_pixels" not in options:
        combined = sum(value * share for value, share in parts) / sum(share for _, share in parts)
        torch.testing.assert_close(combined, loss(logits, target))
        assert parts[0][1] != parts[1][1]
    elif "name" in options:
        assert [float(share) for _, share in parts] == [1, 1]


def test_a_sum_is_the_sum_of_its_terms(make_loss, batch):
    terms = {name: make_loss(name=name)(*batch) for name in ("cross_entropy", "dice", "lovasz")}
    total = make_loss(add={"dice": 0.5, "lovasz": 0.25})
    expected = terms["cross_entropy"] + 0.5 * terms["dice"] + 0.25 * terms["lovasz"]
    torch.testing.assert_close(total(*batch), expected)
    assert total.loss_weight(batch[1]) == (batch[1] != 255).sum()
    assert make_loss(name="dice", add={"focal": 1.0}).loss_weight(batch[1]) == (batch[1] != 255).sum()


def test_a_module_of_your_own_counts_by_pixels(batch):
    assert loss_weight_of(nn.CrossEntropyLoss(), batch[1], 255) == (batch[1] != 255).sum()


def test_your_own_loss_may_read_any_option():
    assert LossConfig(name="my_loss", label_smoothing=0.1).chosen == ("my_loss",)
    with pytest.raises(UnknownNameError, match="my_loss"):
        build_loss(LossConfig(name="my_loss"), LabelSpace.from_names(["a", "b"]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dice": {"smooth": 1.0}}, r"loss cross_entropy does not read loss\.dice\..*does: dice\."),
        (
            {"name": "dice", "class_weights": "balanced"},
            r"loss dice does not read loss\.class_weights\..*: binary_cross_entropy, cross_entropy, focal\.",
        ),
        ({"hard_pixels": {"fraction": 0.5, "threshold": 0.5}}, "give one"),
        ({"hard_pixels": {"min_kept": 5}}, "min_kept needs a threshold"),
        ({"hard_pixels": {"warmup_steps": 5}}, "warmup_steps needs a fraction"),
        ({"name": "focal", "focal": {"alpha": 0.5}}, "alpha needs mode sigmoid"),
        ({"add": {"dice": 0.0}}, "greater than 0"),
    ],
)
def test_idle_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LossConfig.model_validate(options)


def test_wrong_number_of_weights_is_refused():
    labels = LabelSpace.from_names(["a", "b"])
    with pytest.raises(ConfigError, match=r"loss.class_weights: 3 weights for 2 classes.*a, b"):
        build_loss(LossConfig(class_weights=(1.0, 2.0, 3.0)), labels)
    with pytest.raises(ConfigError, match="resolved with the training masks"):
        build_loss(LossConfig(class_weights="balanced"), labels)
    assert isinstance(build_loss(LossConfig(class_weights=(1.0, 2.0)), labels), SegmentationLoss)
