"""What keeps a fit from starting on splits that share pictures."""

from __future__ import annotations

import pandas as pd

from resnet_tl.data.index import ImageIndex
from resnet_tl.errors import UserError


def refuse_leaks(index: ImageIndex, findings: pd.DataFrame) -> None:
    """Raises UserError, in one sentence, when an image of one split is in another one as well.

    Only equal files and equal pixels stop. Near duplicates do not: CIFAR-10 has 14 such pairs across its splits by our
    measure, all of them real, which nobody would want to be stopped by, and a few straight strokes of different people
    in MNIST are as alike; so a person has to look at them.
    """
    leaks = findings[findings["finding"] == "leak"]
    if not len(leaks):
        return
    first = leaks.iloc[0]
    count = "one image is" if len(leaks) == 1 else f"{len(leaks)} images are"
    raise UserError(
        f"{index.root}: {count} in two splits, such as {first['path']} and {first['partner']} ({first['detail']}), "
        f"so that validation would look at what was trained on; list all with `resnet-tl data check {index.root}` and "
        "leave the copies out by --data.exclude findings.csv, or allow it with --data.on_leak warn."
    )
