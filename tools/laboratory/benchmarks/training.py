"""One step of training: forward pass, loss, backward pass, optimiser; ours as a run does it, others as one would."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Optimizer

from laboratory.benchmarks.machine import Way, waiting
from laboratory.benchmarks.subjects import CHANNELS, Subject, Subjects, numbered_labels
from laboratory.benchmarks.switches import Switched, Switches
from segzoo.config.schema import LossConfig, OptimizerConfig, RunConfig
from segzoo.data.transforms.preprocessing import normalize
from segzoo.models.agreement import probe_image
from segzoo.tasks.optim import build_optimizer
from segzoo.tasks.segmentation import Batch
from segzoo.training.build import RunTask, compile_parts

BASELINE_SWITCHES = (
    Switches(),
    Switches(channels_last=True),
    Switches(channels_last=True, fused=True),
    Switches(compiled=True),
    Switches(channels_last=True, compiled=True, fused=True),
    Switches(autocast=True),
    Switches(channels_last=True, autocast=True),
    Switches(channels_last=True, autocast=True, fused=True),
    Switches(autocast=True, compiled=True),
    Switches(channels_last=True, autocast=True, compiled=True, fused=True),
)
"""What users of a network in torch try; the first is what all rows are compared with."""

_PASSES = 3  # forward, and for each convolution two of its size backward
_SETTINGS = OptimizerConfig(learning_rate=1e-4)  # SGD, for all; so slow that many steps on one batch stay finite

Loss = Callable[[], Tensor]


@dataclass(frozen=True)
class Training(Switched):
    """Steps on one batch, in one way.

    Args:
        subject: the network.
        config: says how pixels become input, and which classes there are.
        batch: images.
        size: height and width of them in pixels.
        device: where to compute.
        switches: what is on.
    """

    subject: Subject
    config: RunConfig
    batch: int
    size: int
    device: str
    switches: Switches

    def macs(self) -> int:
        """Multiply-adds that it has to compute."""
        return _PASSES * self.subject.macs(self.batch, self.size)

    def prepare(self) -> Way:
        """Build the network and its optimiser; compile it if asked."""
        torch.manual_seed(0)
        loss, optimizer = self._of_a_run() if self.subject.model is not None else self._by_hand()

        def step() -> None:
            optimizer.zero_grad()
            with self.switches.on(self.device):
                value = loss()
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

        return waiting(step, torch.device(self.device))

    def _of_a_run(self) -> tuple[Loss, Optimizer]:
        """As `segzoo.train` does it, from images in bytes."""
        labels = numbered_labels(self.config)
        images = probe_image(self.batch, CHANNELS, self.size, self.size)
        masks = torch.randint(labels.num_classes, (self.batch, self.size, self.size), dtype=torch.uint8)
        task = RunTask(self._run_config(), labels, steps=1000, pretrained=False).to(self.device)
        optimizer = build_optimizer(task.segmenter, task.config.optimizer, self.batch)
        ids = [str(index) for index in range(self.batch)]
        batch = Batch(image=images.to(self.device), mask=masks.to(self.device), id=ids)
        task.train()
        if self.switches.compiled:
            compile_parts(task.network.large_parts())
        return lambda: task.loss_of(batch), optimizer

    def _run_config(self) -> RunConfig:
        switched = {"channels_last": self.switches.channels_last, "recompute": self.switches.recompute, "accumulate": 1}
        trainer = self.config.trainer.model_copy(update=switched)
        same = {"model": self.subject.model, "loss": LossConfig(), "optimizer": _SETTINGS, "trainer": trainer}
        return self.config.model_copy(update=same)

    def _by_hand(self) -> tuple[Loss, Optimizer]:
        """As one writes it around any network, from normalised images in memory."""
        network = self.switches.ready(self.subject.fitted(self.subject.build().train(), self.size), self.device)
        optimizer = self._optimizer(network)
        pixels = probe_image(self.batch, CHANNELS, self.size, self.size)
        images = self.switches.ready_image(normalize(pixels, self.config.data.preprocessing), self.device)
        classes = numbered_labels(self.config).num_classes
        target = torch.randint(classes, (self.batch, self.size, self.size), device=self.device)
        return lambda: F.cross_entropy(network(images), target, ignore_index=255), optimizer

    def _optimizer(self, network: nn.Module) -> Optimizer:
        rate, momentum, decay = _SETTINGS.learning_rate, _SETTINGS.momentum, _SETTINGS.weight_decay
        fused = True if self.switches.fused else None
        return SGD(network.parameters(), lr=rate, momentum=momentum, weight_decay=decay, fused=fused)


def our_switches(config: RunConfig, device: str, *, autocast: bool = False, compiled: bool = False) -> Switches:
    """What a run with this configuration switches on."""
    recompute = config.trainer.recompute and device == "cpu" and not compiled
    return Switches(
        channels_last=config.trainer.channels_last, autocast=autocast, compiled=compiled, recompute=recompute
    )


def training_cases(
    subjects: Subjects, config: RunConfig, *, batch: int, size: int, device: str, compiled: bool
) -> list[Training]:
    """All ways; the baseline's eager float32 comes first.

    Args:
        subjects: the networks.
        config: says how pixels become input, and whether ours is in channels-last memory order, and recomputes.
        batch: images.
        size: height and width of them in pixels.
        device: where to compute.
        compiled: also what torch.compile makes, which takes minutes before it starts.
    """
    own = [
        our_switches(config, device, autocast=autocast, compiled=is_compiled)
        for autocast in (False, True)
        for is_compiled in (False, True)
    ]

    def rows() -> Iterator[Training]:
        for several, all_switches in (((subjects.baseline,), BASELINE_SWITCHES), (subjects.ours, own)):
            for subject in several:
                for switches in all_switches:
                    if compiled or not switches.compiled:
                        yield Training(subject, config, batch, size, device, switches)

    return list(rows())
