"""Fine-tunes with fastai's `vision_learner` as in its quick start on cats and dogs.

`freeze` and one cycle for the head, `freeze_to(-2)` for stages 3 and 4 (and, with a splitter, for stage 4 alone),
`unfreeze` for all. fastai's own head has a hidden layer, and BatchNorm stays trainable in what is frozen. Tuned:
`train_bn=False`, a callback like `BnFreeze` that holds the backbone's BatchNorm in trained stages as well,
`ChannelsLast`, and bfloat16: fastai's callback for that works on CUDA alone, so that the CPU gets the same callback
with the CPU's autocast.
"""

from __future__ import annotations

import torch
from fastai.callback.channelslast import ChannelsLast
from fastai.vision.all import (
    Callback,
    ImageDataLoaders,
    L,
    Learner,
    MixedPrecision,
    Resize,
    TrainEvalCallback,
    accuracy,
    default_device,
    model_meta,
    models,
    params,
    vision_learner,
)
from job import Job, checksums, read_job
from safetensors.torch import load_file
from torch import nn


class BatchNormEval(Callback):
    """fastai's `BnFreeze`, but for trained layers too; the head's BatchNorm1d goes on."""

    run_after = TrainEvalCallback

    def before_train(self) -> None:
        for module in self.model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()


class BFloat16(MixedPrecision):
    """fastai's `to_bf16`, on a CPU as well."""

    def __init__(self) -> None:
        super().__init__(amp_mode="bf16")

    def before_fit(self) -> None:
        super().before_fit()
        self.autocast = torch.autocast(default_device().type, torch.bfloat16)


def local_architecture(job: Job):
    """The architecture as `vision_learner` takes it, with its weights from our file in place of a download."""
    original = getattr(models, job.network)

    def architecture(pretrained: bool):
        network = original()
        network.load_state_dict(load_file(job.weights))
        return network

    model_meta[architecture] = {key: value for key, value in model_meta[original].items() if key != "weights"}
    return architecture


def before_stage4(model) -> L:
    """Splits as fastai's own splitter of ResNets does, one stage later."""
    return L(model[0][:7], model[0][7:], model[1:]).map(params)


def learner(job: Job) -> Learner:
    loaders = ImageDataLoaders.from_folder(
        job.photos, valid="val", item_tfms=Resize(224), bs=job.batch_size, num_workers=job.workers
    )
    options = {"splitter": before_stage4} if job.work == "stage4" else {}
    if job.tuned:
        options |= {"train_bn": False, "cbs": [BatchNormEval(), ChannelsLast(), BFloat16()]}
    return vision_learner(loaders, local_architecture(job), metrics=accuracy, **options)


def main() -> None:
    job = read_job(__doc__)
    learn = learner(job)
    body = {name: tensor for name, tensor in learn.model.state_dict().items() if name.startswith("0.")}
    before = checksums(body)
    if job.work == "head":
        learn.fit_one_cycle(job.epochs)
    elif job.work == "all":
        learn.unfreeze()
        learn.fit_one_cycle(job.epochs, slice(1e-5, 1e-3))
    else:
        learn.freeze_to(-2)
        learn.fit_one_cycle(job.epochs, slice(1e-4, 1e-3))
    job.report(learn.recorder.values[-1][-1], before, learn.model.cpu().state_dict(), body="0.")


if __name__ == "__main__":
    main()
