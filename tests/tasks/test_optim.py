"""Groups, optimisers and schedules against closed forms and NumPy."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn

from segzoo.config.schema import ModelConfig, OptimizerConfig
from segzoo.models.build import build_segmenter
from segzoo.tasks.optim import (
    batch_advice,
    build_optimizer,
    build_schedule,
    learning_rate,
    learning_rate_factor,
    parameter_groups,
    rate_factors,
    step_period,
)


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 3, groups=8, bias=False),  # depthwise
        nn.GroupNorm(2, 8),
        nn.Conv2d(8, 4, 1),
    )


@pytest.fixture(scope="module")
def segmenter() -> nn.Module:
    config = ModelConfig.model_validate({"decoder": "unet", "backbone": {"name": "xception", "width": 0.1}})
    return build_segmenter(config, 3)


def rates(groups: list[dict]) -> dict[int, float]:
    """Learning rate of each parameter by its id; each is in one group only."""
    counts = Counter(id(parameter) for group in groups for parameter in group["params"])
    assert set(counts.values()) == {1}
    return {id(parameter): group["lr"] for group in groups for parameter in group["params"]}


def test_groups_of_the_recipe() -> None:
    groups = {group["name"]: group for group in parameter_groups(network(), OptimizerConfig(), 0.1)}
    shapes = {name: sorted(tuple(p.shape) for p in group["params"]) for name, group in groups.items()}
    assert list(groups) == ["weights", "no_decay", "biases"]
    assert shapes["weights"] == [(4, 8, 1, 1), (8, 3, 3, 3)]
    assert shapes["biases"] == [(4,)]
    assert shapes["no_decay"] == [(8,), (8,), (8,), (8,), (8, 1, 3, 3)]
    assert groups["weights"]["weight_decay"] == 4e-5
    assert groups["no_decay"]["weight_decay"] == groups["biases"]["weight_decay"] == 0
    assert (groups["weights"]["lr"], groups["biases"]["lr"]) == (0.1, 0.2)


@pytest.mark.parametrize(
    "options", [{}, {"layer_decay": 0.8}, {"backbone_lr_factor": 0.1, "head_lr_factor": 3.0, "layer_decay": 0.9}]
)
def test_every_trainable_parameter_once_and_no_frozen_one(segmenter: nn.Module, options: dict) -> None:
    frozen = segmenter.backbone.stem.conv1.weight
    frozen.requires_grad = False
    grouped = rates(parameter_groups(segmenter, OptimizerConfig(**options), 0.1))
    frozen.requires_grad = True
    assert grouped.keys() == {id(p) for p in segmenter.parameters()} - {id(frozen)}


def test_backbone_and_head_have_rates_of_their_own(segmenter: nn.Module) -> None:
    config = OptimizerConfig(backbone_lr_factor=0.1, head_lr_factor=10.0, bias_lr_factor=2.0)
    grouped = rates(parameter_groups(segmenter, config, 0.5))
    for name, parameter in segmenter.named_parameters():
        norm = isinstance(segmenter.get_submodule(name.rpartition(".")[0]), nn.BatchNorm2d)
        bias = 2 if name.endswith("bias") and not norm else 1
        expected = 0.05 if name.startswith("backbone.") else 5.0 * bias
        assert grouped[id(parameter)] == pytest.approx(expected), name


def test_layers_decay_from_the_head_to_the_stem(segmenter: nn.Module) -> None:
    config = OptimizerConfig(layer_decay=0.5, backbone_lr_factor=3.0)
    factors = rate_factors(segmenter, config)
    # Chollet's 14 modules: the stem, 3 in the entry flow, 8 in the middle, 2 in the exit flow.
    modules = ["stem", *(f"entry_flow.{i}" for i in range(3)), *(f"middle_flow.{i}" for i in range(8))]
    modules += ["exit_flow.0", "exit_flow.1"]
    for depth, module in enumerate(reversed(modules), start=1):
        found = {factors[parameter] for parameter in segmenter.backbone.get_submodule(module).parameters()}
        assert found == {3.0 * 0.5**depth}, module
    assert factors.keys() == set(segmenter.backbone.parameters())
    first = parameter_groups(segmenter, config, 0.1)[0]
    assert (first["name"], first["lr"]) == ("weights", 0.1)  # what metrics.csv shows


CLOSED_FORMS = {
    "poly": ({}, lambda step: (1 - step / 100) ** 0.9),
    "cosine": ({"schedule": "cosine"}, lambda step: 0.5 * (1 + math.cos(math.pi * step / 100))),
    "step": ({"schedule": "step", "step_factor": 0.94, "step_every": 30}, lambda step: 0.94 ** (step // 30)),
    "constant": ({"poly_power": 0.0}, lambda step: 1.0),
}


@pytest.mark.parametrize(("options", "expected"), CLOSED_FORMS.values(), ids=CLOSED_FORMS)
def test_schedule_in_closed_form(options: dict, expected) -> None:
    config = OptimizerConfig(learning_rate=0.007, **options)
    optimizer = build_optimizer(network(), config, 16)
    schedule = build_schedule(optimizer, 100, config)
    found = []
    for _ in range(101):
        found.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    wanted = [0.007 * expected(step) for step in range(101)]
    assert [weights for weights, _, _ in found] == pytest.approx(wanted)
    assert [biases for _, _, biases in found] == pytest.approx([2 * rate for rate in wanted])


@pytest.mark.parametrize(
    ("options", "images_per_step", "samples", "expected"),
    [
        # Xception's ImageNet recipe: 0.045 × 0.94^n from the step at which 2n passes over 1,281,167 images are done.
        # 128 images a step are 10,009.117 steps a pass: a rounded period would be a step off after 18 passes.
        (
            {"learning_rate": 0.045, "step_factor": 0.94, "step_every_epochs": 2},
            128,
            1_281_167,
            {0: 0.045, 20_018: 0.045, 20_019: 0.0423, 180_164: 0.045 * 0.94**8, 180_165: 0.045 * 0.94**9},
        ),
        # Its JFT recipe: 0.001 × 0.9^n from the step at which 3,000,000 n images are done, whatever the passes.
        (
            {"name": "rmsprop", "learning_rate": 0.001, "step_factor": 0.9, "step_every_images": 3_000_000},
            32,
            350_000_000,
            {0: 0.001, 93_749: 0.001, 93_750: 0.0009, 187_500: 0.00081, 937_500: 0.001 * 0.9**10},
        ),
        ({"learning_rate": 1.0, "step_factor": 0.5, "step_every": 7}, 3, 5, {6: 1.0, 7: 0.5, 13: 0.5, 14: 0.25}),
        (
            {"learning_rate": 1.0, "step_factor": 0.5, "step_every_epochs": 0.5},
            4,
            10,
            {1: 1.0, 2: 0.5, 3: 0.25, 4: 0.125},
        ),
    ],
    ids=["imagenet", "jft", "steps", "half epochs"],
)
def test_step_schedule_of_the_recipes_at_chosen_steps(options, images_per_step, samples, expected) -> None:
    config = OptimizerConfig(schedule="step", **options)
    optimizer = build_optimizer(network(), config, images_per_step)
    period = step_period(config, images_per_step, samples)
    factor = build_schedule(optimizer, 10**6, config, period).lr_lambdas[0]
    assert {step: config.learning_rate * factor(step) for step in expected} == pytest.approx(expected, rel=1e-12)


def test_a_period_in_passes_needs_their_length() -> None:
    with pytest.raises(ValueError, match="needs the number of training images"):
        step_period(OptimizerConfig(schedule="step", step_every_epochs=2), 8, None)
    assert step_period(OptimizerConfig(), 8, None) is None


@pytest.mark.parametrize("schedule", ["poly", "cosine"])
def test_warm_up_is_linear_and_times_the_schedule(schedule: str) -> None:
    warm = OptimizerConfig(warmup_steps=4, schedule=schedule)
    plain = OptimizerConfig(schedule=schedule)
    ratio = [learning_rate_factor(step, 100, warm) / learning_rate_factor(step, 100, plain) for step in range(6)]
    assert ratio == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])


def test_momentum_is_not_nesterov() -> None:
    optimizer = build_optimizer(network(), OptimizerConfig(), 16)
    assert isinstance(optimizer, torch.optim.SGD)
    assert optimizer.defaults["nesterov"] is False


def run_optimizer(config: OptimizerConfig, gradients: np.ndarray) -> float:
    """A weight that starts at 1, after a step with each gradient."""
    net = nn.Linear(1, 1, bias=False)
    nn.init.ones_(net.weight)
    optimizer = build_optimizer(net, config, 16)
    for gradient in gradients:
        net.weight.grad = torch.tensor([[float(gradient)]])
        optimizer.step()
    return net.weight.item()


@pytest.mark.parametrize(("epsilon", "decay"), [(None, None), (1.0, 0.95)])
def test_rmsprop_is_tensorflows(epsilon: float | None, decay: float | None) -> None:
    gradients = np.array([0.5, -0.2, 0.9, 0.1, 0.1])
    weight, square, moment, eps, rho = 1.0, 1.0, 0.0, epsilon or 1e-10, decay or 0.9
    for gradient in gradients + 0.0:
        gradient += 0.01 * weight
        square = rho * square + (1 - rho) * gradient**2
        moment = 0.9 * moment + 0.05 * gradient / math.sqrt(square + eps)
        weight -= moment
    options = {"weight_decay": 0.01, "epsilon": epsilon, "square_decay": decay}
    config = OptimizerConfig(name="rmsprop", learning_rate=0.05, **options)
    assert run_optimizer(config, gradients) == pytest.approx(weight, rel=1e-5)


def test_adamw_in_closed_form() -> None:
    gradients = np.array([0.5, -0.2, 0.9])
    weight, first, second = 1.0, 0.0, 0.0
    for step, gradient in enumerate(gradients, start=1):
        first = 0.8 * first + 0.2 * gradient
        second = 0.99 * second + 0.01 * gradient**2
        weight -= 0.05 * 0.1 * weight
        weight -= 0.05 * (first / (1 - 0.8**step)) / (math.sqrt(second / (1 - 0.99**step)) + 1e-4)
    options = {"momentum": 0.8, "square_decay": 0.99, "epsilon": 1e-4, "weight_decay": 0.1}
    config = OptimizerConfig(name="adamw", learning_rate=0.05, **options)
    assert run_optimizer(config, gradients) == pytest.approx(weight, rel=1e-5)


@pytest.mark.parametrize(("name", "expected"), [("sgd", 0.025), ("adamw", 0.05), ("rmsprop", 0.05)])
def test_learning_rate_scales_to_the_batch(name: str, expected: float) -> None:
    config = OptimizerConfig(name=name, learning_rate=0.1, scale_to_batch=16)
    assert learning_rate(config, 4) == pytest.approx(expected)
    assert build_optimizer(network(), config, 4).param_groups[0]["lr"] == pytest.approx(expected)
    assert learning_rate(config, 16) == learning_rate(OptimizerConfig(name=name, learning_rate=0.1), 4) == 0.1


def test_advice_where_the_batch_is_far_from_the_recipes() -> None:
    advice = batch_advice(OptimizerConfig(), 4)
    assert advice is not None
    assert "scale_to_batch=16, which makes it 0.0018" in advice
    assert batch_advice(OptimizerConfig(), 32) is not None
    assert batch_advice(OptimizerConfig(), 12) is None
    for chosen in ({"scale_to_batch": 16}, {"learning_rate": 0.01}, {"name": "adamw"}):
        assert batch_advice(OptimizerConfig(**chosen), 4) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "step"}, "needs one of step_every, step_every_epochs and step_every_images, .*; it has none"),
        ({"schedule": "step", "step_every": 5, "step_every_images": 5}, "it has step_every and step_every_images"),
        ({"step_every_epochs": 2}, "option of schedule step"),
        ({"step_every": 5}, "option of schedule step"),
        ({"schedule": "cosine", "poly_power": 0.5}, "option of schedule poly"),
        ({"epsilon": 1.0}, "sgd has none"),
    ],
)
def test_idle_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OptimizerConfig(**options)
