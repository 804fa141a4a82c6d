"""A model bundle made into one zip."""

from __future__ import annotations

from pathlib import Path

from resnet_tl.bundle import Bundle
from resnet_tl.bundle_zip import write_bundle_zip
from resnet_tl.errors import UserError
from resnet_tl.sharing.info import damages


def zip_bundle(path: str | Path, file: str | Path) -> Bundle:
    """Writes the bundle of a run, a folder or a zip as one zip, the same for the same bundle, and gives it.

    UserError where there is none, a file of it is damaged, or the zip cannot be written.
    """
    bundle = Bundle.open(path)
    if damaged := damages(bundle):
        raise UserError(f"{path} is damaged and was not written: {'; '.join(damaged)}.")
    write_bundle_zip({name: bundle.read(name) for name in bundle.sizes()}, file)
    return Bundle.open(file)
