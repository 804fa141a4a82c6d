"""Fine-tunes by fastai's `fine_tune`, as its tutorial on pets does: presizing, `aug_transforms`, the default rate.

One epoch with the body frozen, then the epochs that were asked for with all of it, each one cycle. The images are
resized to 460/224 of the size before they are augmented, as there. Batch size (64), learning rate (0.002) and rates by
layer are fastai's defaults. For dihedral symmetry `flip_vert=True`, as its documentation has it for satellites.
Tuned: `ChannelsLast`, and bfloat16 where it is faster.
"""

from __future__ import annotations

from fastai.callback.channelslast import ChannelsLast
from fastai.vision.all import (
    Callback,
    ImageDataLoaders,
    Resize,
    accuracy,
    aug_transforms,
    set_seed,
    vision_learner,
)
from fastai_learner import BFloat16, local_architecture
from task import Task, read_task


class Laps(Callback):
    """A lap ends with each epoch, its validation included."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def before_epoch(self) -> None:
        if not self.task.laps:
            self.task.begin()

    def after_epoch(self) -> None:
        self.task.lap("all" if self.task.laps else "frozen")


def main() -> None:
    task = read_task(__doc__)
    set_seed(task.seed)
    loaders = ImageDataLoaders.from_folder(
        task.photos,
        valid="val",
        item_tfms=Resize(task.size * 460 // 224),
        batch_tfms=aug_transforms(size=task.size, min_scale=0.75, flip_vert=task.symmetry == "dihedral"),
        num_workers=task.workers,
    )
    fast = [ChannelsLast()] if task.tuned else []
    fast += [BFloat16()] if task.bf16 else []
    learn = vision_learner(loaders, local_architecture(task), metrics=accuracy, cbs=fast)
    with learn.added_cbs(Laps(task)):
        learn.fine_tune(task.epochs)
    probabilities, _ = learn.get_preds(dl=loaders.valid)
    task.lap("predict")
    task.write(loaders.valid_ds.items, list(loaders.vocab), probabilities)


if __name__ == "__main__":
    main()
