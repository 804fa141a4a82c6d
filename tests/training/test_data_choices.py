"""What `data.symmetry` does in a fit, and what `auto` becomes there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from resnet_tl import ImageClassifier, ImageDataModule
from resnet_tl.bundle import Bundle
from resnet_tl.training import data_choices as finding

Fit = Callable[..., Any]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a measurement gives, to be changed; each one that is made takes it."""
    answers = ["dihedral"]
    monkeypatch.setattr(finding, "look", lambda *facts: [])
    monkeypatch.setattr(finding, "judge", lambda probes: (answers[-1], "as measured"))
    return answers


def test_a_fit_measures_it_and_says_so_once(fit: Fit, measured: list[str], tmp_path: Path, caplog: Any) -> None:
    with caplog.at_level("INFO", "resnet_tl"):
        model = fit(1, mode="all", ema=0.9)  # whose callback has the network built twice
    assert model.fitted.symmetry == "dihedral"
    assert model.resolved["data.symmetry"] == ("dihedral", "as measured")
    assert [line for line in caplog.messages if "symmetry" in line] == ["data.symmetry dihedral: as measured"]
    model.save(tmp_path / "model")
    assert Bundle.open(tmp_path / "model").data["symmetry"] == "dihedral"


def test_nothing_is_measured_where_nothing_is_augmented(fit: Fit, measured: list[str]) -> None:
    measured.append("measured in vain")
    for data in ({"augmentation": "none"}, {"augmentation": "none", "random_erasing": 0.5}):
        model = fit(1, data=data)
        assert model.resolved["data.symmetry"] == ("none", "data.augmentation is none")
        assert "symmetry" not in model.fitted.facts()
    assert fit(1, mode="head").fitted.symmetry == "none"


def test_what_is_given_is_not_measured(fit: Fit, measured: list[str]) -> None:
    model = fit(1, data={"symmetry": "mirror"})
    assert model.fitted.symmetry == "mirror"
    assert "data.symmetry" not in model.resolved
    assert model.fitted.facts()["symmetry"] == "mirror"


def test_what_is_set_by_hand_holds(blobs: Path, measured: list[str]) -> None:
    data, model = ImageDataModule(blobs, image_size=16), ImageClassifier(network="resnet20", weights="none")
    data.setup()
    model.build(data)
    data.symmetry = "none"
    model.build(data)
    assert data.symmetry == "none"


def test_a_symmetry_alone_augments(blobs: Path) -> None:
    """Also in the mode head, whose augmentation is none."""
    plain, mirrored = (
        ImageDataModule(blobs, image_size=16, augmentation="none", symmetry=s) for s in ("none", "mirror")
    )
    for data in (plain, mirrored):
        data.setup()
        ImageClassifier(network="resnet20", weights="none", mode="head").build(data)
    assert not plain.augments
    assert mirrored.augments
    centres, views = (next(iter(data.train_dataloader()))["image"] for data in (plain, mirrored))
    turned = [torch.equal(view, centre.flip(2)) for view, centre in zip(views, centres, strict=True)]
    kept = [torch.equal(view, centre) for view, centre in zip(views, centres, strict=True)]
    assert all(one != other for one, other in zip(turned, kept, strict=True))
    assert any(turned)
    assert any(kept)


def test_a_fit_goes_on_with_what_it_had_found(fit: Fit, measured: list[str], tmp_path: Path) -> None:
    kept = ModelCheckpoint(tmp_path / "kept", "{epoch}", save_top_k=-1)
    whole = fit(2, trainer={"callbacks": [kept], "enable_checkpointing": True})
    measured.append("mirror")  # on another machine, say
    kept = ModelCheckpoint(tmp_path / "resumed", "{epoch}", save_top_k=-1)
    trainer = {"callbacks": [kept], "enable_checkpointing": True}
    resumed = fit(2, trainer=trainer, ckpt_path=tmp_path / "kept" / "epoch=0.ckpt")
    assert resumed.fitted.symmetry == "dihedral"
    assert resumed.resolved["data.symmetry"] == ("dihedral", "as the fit began")
    for one, other in zip(whole.network.state_dict().values(), resumed.network.state_dict().values(), strict=True):
        assert torch.equal(one, other)
