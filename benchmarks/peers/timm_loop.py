"""Fine-tunes with timm's parts in a loop: its loader, model, freezing, optimizer and scheduler.

Transforms, optimizer (SGD) and its learning rate (0.1 for 256 images) are the defaults of timm's `train.py`. timm's
`freeze` replaces the frozen BatchNorm by constants, in both variants. Tuned: the options `--amp --amp-dtype bfloat16`
and `--channels-last` of `train.py`, and BatchNorm in eval mode in the trained stages as well.
"""

from __future__ import annotations

import timm
import torch
from job import FROZEN, checksums, read_job
from timm.data import create_dataset, create_loader, resolve_data_config
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import AverageMeter, accuracy, freeze
from torch import nn


def main() -> None:
    job = read_job(__doc__)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train_images = create_dataset("", root=str(job.photos), split="train", is_training=True)
    val_images = create_dataset("", root=str(job.photos), split="val")

    model = timm.create_model(
        f"{job.network}.tv_in1k",
        pretrained=True,
        pretrained_cfg_overlay={"file": str(job.weights)},
        num_classes=len(train_images.reader.class_to_idx),
    )
    before = checksums({name: tensor for name, tensor in model.state_dict().items() if not name.startswith("fc.")})
    if FROZEN[job.work]:
        freeze(model, list(FROZEN[job.work]))
    config = resolve_data_config({}, model=model)
    options = {
        "input_size": config["input_size"],
        "batch_size": job.batch_size,
        "interpolation": config["interpolation"],
        "mean": config["mean"],
        "std": config["std"],
        "num_workers": job.workers,
        "persistent_workers": job.workers > 0,
        "device": device,
    }
    train_loader = create_loader(train_images, is_training=True, **options)
    val_loader = create_loader(val_images, crop_pct=config["crop_pct"], **options)

    model.to(device)
    if job.tuned:
        model.to(memory_format=torch.channels_last)
    lr = 0.1 * job.batch_size / 256
    optimizer = create_optimizer_v2(model, opt="sgd", lr=lr, momentum=0.9, weight_decay=2e-5)
    scheduler, _ = create_scheduler_v2(optimizer, sched="cosine", num_epochs=job.epochs)
    loss_function = nn.CrossEntropyLoss()

    for epoch in range(job.epochs):
        model.train()
        if job.tuned:
            for module in model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        for images, labels in train_loader:
            if job.tuned:
                images = images.contiguous(memory_format=torch.channels_last)
            with torch.autocast(device.type, torch.bfloat16, enabled=job.tuned):
                loss = loss_function(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step(epoch + 1)

        model.eval()
        top1 = AverageMeter()
        with torch.inference_mode():
            for images, labels in val_loader:
                if job.tuned:
                    images = images.contiguous(memory_format=torch.channels_last)
                with torch.autocast(device.type, torch.bfloat16, enabled=job.tuned):
                    logits = model(images)
                top1.update(accuracy(logits, labels)[0].item(), len(images))
        print(f"epoch {epoch + 1}: {top1.avg:.1f}", flush=True)
    job.report(top1.avg / 100, before, model.cpu().state_dict())


if __name__ == "__main__":
    main()
