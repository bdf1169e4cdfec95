"""Images and their classes to batches, for Lightning."""

from segzoo.config.classification_data import ClassificationDataConfig
from segzoo.data.datasets.spec import build_classification_dataset
from segzoo.data.loading.classification_items import (
    CentralDataset,
    ChainedBatchSampler,
    CroppedDataset,
    Mixup,
    as_class_batch,
    as_class_batch_or_nothing,
)
from segzoo.data.loading.datamodule import (
    SampleLoader,
    StepDataModule,
    training_loader,
    whole_split_loader,
    worker_count,
)
from segzoo.data.sample import ClassificationDataset
from segzoo.data.transforms.classification import CenterView, TrainView


class ClassificationDataModule(StepDataModule[ClassificationDataConfig, ClassificationDataset]):
    """Crops to train a classifier on, and the centres of images to measure it by; otherwise as `StepDataModule`.

    A batch is a dictionary: `image`, `target` as in `ClassItem`, and `id`, a list.
    """

    def _dataset(self, split: str) -> ClassificationDataset:
        return build_classification_dataset(self.config, split)

    def train_dataloader(self) -> SampleLoader:
        """Augmented batches, from `start_step` to the end of the run."""
        dataset = CroppedDataset(self.train_dataset, TrainView(self.config), self.seed)
        workers = worker_count(self.config, self._process()[1])
        alpha = self.config.augmentation.mixup
        if not alpha:
            return training_loader(dataset, self._order(), as_class_batch, workers)
        return training_loader(
            dataset, self._order(ChainedBatchSampler), Mixup(alpha, self.labels.num_classes), workers
        )

    def val_dataloader(self) -> SampleLoader:
        """Batches of central crops, each image once over all processes; a process without images gets an empty list."""
        return central_loader(self.val_dataset, self.config, self.eval_batch_size, *self._process())


def central_loader(
    dataset: ClassificationDataset,
    config: ClassificationDataConfig,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
) -> SampleLoader:
    """Batches of a split as evaluation sees it, in order.

    Args:
        dataset: where images come from.
        config: says which part of them is seen, and the number of workers.
        batch_size: images in a batch.
        rank: number of this process.
        world_size: number of processes; each image comes in one of them.
    """
    return whole_split_loader(
        CentralDataset(dataset, CenterView(config)),
        len(dataset),
        as_class_batch_or_nothing,
        worker_count(config, world_size),
        batch_size,
        rank,
        world_size,
    )
