"""Fine-tunes with timm's parts by the defaults of its `train.py`.

`create_loader` (random resized crop, flip, colour jitter 0.4), label smoothing 0.1, SGD with Nesterov momentum, weight
decay 2e-5 and a learning rate of 0.1 for 256 images, a cosine on updates (`--sched-on-updates`) without the five epochs
of warm-up, which few epochs leave no room for. The batch is 32 and not 128, for more steps. For dihedral symmetry
`--vflip 0.5`. Tuned: `--channels-last`, and `--amp --amp-dtype bfloat16` where it is faster.
"""

from __future__ import annotations

import timm
import torch
from task import read_task
from timm.data import create_dataset, create_loader, resolve_data_config
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import AverageMeter, accuracy, random_seed

BATCH = 32


def main() -> None:
    task = read_task(__doc__)
    random_seed(task.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train_images = create_dataset("", root=str(task.photos), split="train", is_training=True)
    val_images = create_dataset("", root=str(task.photos), split="val")
    classes = list(train_images.reader.class_to_idx)
    model = timm.create_model(
        f"{task.network}.tv_in1k",
        pretrained=True,
        pretrained_cfg_overlay={"file": str(task.weights)},
        num_classes=len(classes),
    ).to(device)
    layout = torch.channels_last if task.tuned else torch.contiguous_format
    model.to(memory_format=layout)
    config = resolve_data_config({"img_size": task.size}, model=model)
    options = {name: config[name] for name in ("input_size", "interpolation", "mean", "std")}
    options |= {"batch_size": BATCH, "num_workers": task.workers, "device": device}
    options["persistent_workers"] = task.workers > 0
    vflip = 0.5 if task.symmetry == "dihedral" else 0.0
    train_loader = create_loader(
        train_images, is_training=True, **(options | {"interpolation": "random"}), color_jitter=0.4, vflip=vflip
    )
    val_loader = create_loader(val_images, crop_pct=config["crop_pct"], **options)

    optimizer = create_optimizer_v2(model, opt="sgd", lr=0.1 * BATCH / 256, momentum=0.9, weight_decay=2e-5)
    scheduler, _ = create_scheduler_v2(
        optimizer, sched="cosine", num_epochs=task.epochs, step_on_epochs=False, updates_per_epoch=len(train_loader)
    )
    loss_function = LabelSmoothingCrossEntropy(0.1)

    def forward(images: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=task.bf16):
            return model(images.contiguous(memory_format=layout))

    task.begin()
    updates = 0
    for epoch in range(task.epochs):
        model.train()
        for images, labels in train_loader:
            loss = loss_function(forward(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            updates += 1
            scheduler.step_update(updates)
        model.eval()
        top1, logits = AverageMeter(), []
        with torch.inference_mode():
            for images, labels in val_loader:
                logits.append(forward(images).float().cpu())
                top1.update(accuracy(logits[-1], labels.cpu())[0].item(), len(images))
        print(f"epoch {epoch + 1}: {top1.avg:.1f}", flush=True)
        task.lap("all")
    files = [task.photos / "val" / name for name in val_images.filenames()]
    task.write(files, classes, torch.cat(logits).softmax(dim=1))


if __name__ == "__main__":
    main()
