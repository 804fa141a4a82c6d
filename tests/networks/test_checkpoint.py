"""The wrappings in which other programs save a network's weights."""

from __future__ import annotations

import argparse
import logging
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from resnet_tl.errors import UserError
from resnet_tl.networks import create_network
from resnet_tl.networks.stages import StagedNetwork
from resnet_tl.networks.weights import load_weights

State = dict[str, Tensor]


def made(seed: int = 0, name: str = "resnet20", in_chans: int = 3) -> StagedNetwork:
    torch.manual_seed(seed)
    return create_network(name, 3, in_chans)


@pytest.fixture(scope="module")
def donor() -> StagedNetwork:
    return made(1)


@pytest.fixture(scope="module")
def state(donor: StagedNetwork) -> State:
    return dict(donor.body.state_dict())


def body(state: State) -> State:
    return {key: tensor for key, tensor in state.items() if not key.startswith("fc.")}


def below(prefix: str, state: State) -> State:
    return {prefix + key: tensor for key, tensor in state.items()}


def zeros(state: State) -> State:
    return {key: torch.zeros_like(tensor) for key, tensor in state.items()}


def is_filled(network: StagedNetwork, donor: StagedNetwork) -> bool:
    ours, theirs = network.body.state_dict(), donor.body.state_dict()
    return all(torch.equal(ours[key], theirs[key]) for key in body(ours))


class Config:
    """Of another program, which is not at hand here; it must not be imported or run."""

    def __init__(self) -> None:
        self.lr = 0.1

    def __setstate__(self, state: Any) -> None:
        raise AssertionError("it was unpickled")


class EasyDict(dict):
    pass


SCORE, FC = torch.tensor(70.1), torch.zeros(5, 64)
WRAPPINGS: dict[str, tuple[Callable[[State], Any], str]] = {
    "Lightning": (lambda s: {"state_dict": below("model.", s), "hyper_parameters": {"lr": 0.1}}, "state_dict.model"),
    "Lightning twice": (lambda s: {"state_dict": below("net.model.", s)}, "state_dict.net.model"),
    "a tutorial": (lambda s: {"model_state_dict": s, "optimizer_state_dict": {}, "loss": 0.1}, "model_state_dict"),
    "net": (lambda s: {"net": s, "acc": 95.1}, "net"),
    "params": (lambda s: {"params": s}, "params"),
    "DDP": (lambda s: {"arch": "x", "best_acc1": SCORE, "state_dict": below("module.", s)},
            "state_dict.module"),
    "compiled under DDP": (lambda s: below("module._orig_mod.", s), "module._orig_mod"),
    "self-supervised": (lambda s: {"state_dict": {**below("backbone.", body(s)), "projection_head.0.weight": FC}},
                        "state_dict.backbone"),
    "a frozen loss": (lambda s: {"state_dict": {**below("model.", s), "criterion.weight": FC}}, "state_dict.model"),
    "a head of another name": (lambda s: {**body(s), "classifier.1.weight": FC}, ""),
    "an average": (lambda s: {"state_dict": zeros(s), "state_dict_ema": s}, "state_dict_ema"),
    "an average of other keys": (lambda s: {"model": zeros(s), "model_ema": below("module.", s)}, "model_ema.module"),
    "MoCo": (lambda s: {"state_dict": {**below("module.encoder_q.", s), **below("module.encoder_k.", zeros(s)),
                                       "module.queue": torch.zeros(8, 16)}}, "state_dict.module.encoder_q"),
    "MoCo v3": (lambda s: {"state_dict": {**below("module.momentum_encoder.", zeros(s)),
                                          **below("module.base_encoder.", s)}}, "state_dict.module.base_encoder"),
    "BYOL": (lambda s: {**below("target_encoder.", zeros(s)), **below("online_encoder.", s)}, "online_encoder"),
    "DINO": (lambda s: {"student": below("module.backbone.", zeros(s)), "teacher": below("backbone.", s), "epoch": 9},
             "teacher.backbone"),
    "the same twice": (lambda s: {"a": s, "b": dict(s)}, "a"),
    "numbered children": (lambda s: dict(nn.Sequential(*_with(s).children()).state_dict()), ""),
    "fastai": (lambda s: {"model": {**below("0.", nn.Sequential(*list(_with(s).children())[:-1]).state_dict()),
                                    "1.8.weight": FC}, "opt": {"state": [{"grad_avg": FC}]}},
               "model.0"),
    "a namespace": (lambda s: {"state_dict": s, "args": argparse.Namespace(lr=0.1)}, "state_dict"),
    "objects of its own": (lambda s: {"state_dict": s, "config": Config(), "path": Path("x"), "kind": Config},
                           "state_dict"),
    "numbers of NumPy": (lambda s: {"state_dict": s, "best": np.float64(0.7), "all": np.arange(3)}, "state_dict"),
    "dictionaries of another kind": (lambda s: EasyDict(state_dict=OrderedDict(s), log=defaultdict(list)),
                                     "state_dict"),
}  # fmt: skip


def _with(state: State) -> nn.Module:
    body = made().body
    body.load_state_dict(state)
    return body


@pytest.mark.parametrize("name", WRAPPINGS)
@pytest.mark.parametrize("is_old", [False, True])
def test_the_network_is_found(name: str, is_old: bool, donor: StagedNetwork, state: State, tmp_path: Path) -> None:
    wrap, where = WRAPPINGS[name]
    if is_old and name in ("objects of its own", "numbers of NumPy", "dictionaries of another kind"):
        pytest.skip("files of torch before 1.6 do not say what is in them")
    torch.save(wrap(state), tmp_path / "w.pth.tar", _use_new_zipfile_serialization=not is_old)
    target = made()
    origin = load_weights(target, str(tmp_path / "w.pth.tar"))
    assert is_filled(target, donor)
    assert (origin.source, origin.part) == (str(tmp_path / "w.pth.tar"), where)


def test_one_line_names_what_is_not_used(state: State, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    wrap, _ = WRAPPINGS["MoCo"]
    torch.save(wrap(state), tmp_path / "w.pth")
    with caplog.at_level(logging.INFO, logger="resnet_tl"):
        load_weights(made(), str(tmp_path / "w.pth"))
    assert caplog.messages == [
        f"{tmp_path}/w.pth: the weights are those of state_dict.module.encoder_q; not used: "
        "state_dict.module.encoder_k (97), state_dict.module.queue (1)"
    ]
    caplog.clear()
    torch.save({"state_dict": below("module.", state)}, tmp_path / "w.pth")
    with caplog.at_level(logging.INFO, logger="resnet_tl"):
        load_weights(made(), str(tmp_path / "w.pth"))
    assert caplog.messages == []


def test_names_in_a_file_cannot_steer_the_terminal(
    state: State, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save({"\x1b[2Jema": {"x\x07": {**state, "\x1b[31mqueue": torch.zeros(3)}}}, tmp_path / "w.pth")
    with caplog.at_level(logging.INFO, logger="resnet_tl"):
        origin = load_weights(made(), str(tmp_path / "w.pth"))
    assert "\x1b" not in caplog.text + origin.part
    assert origin.part == r"\x1b[2Jema.x\x07"


def test_two_that_differ_and_are_called_alike_are_refused(state: State, tmp_path: Path) -> None:
    torch.save({"a": zeros(state), "b": state}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"holds weights of resnet20 more than once \(a, b\); save one of them"):
        load_weights(made(), str(tmp_path / "w.pth"))


def test_a_teacher_of_another_network_is_passed_over(donor: StagedNetwork, state: State, tmp_path: Path) -> None:
    teacher = dict(made(name="resnet32").body.state_dict())
    torch.save({"teacher": teacher, "student": state}, tmp_path / "w.pth")
    target = made()
    assert load_weights(target, str(tmp_path / "w.pth")).part == "student"
    assert is_filled(target, donor)


def test_a_deeper_network_is_not_taken_for_one_with_leftovers(tmp_path: Path) -> None:
    torch.save({"state_dict": below("model.", dict(made(name="resnet32").body.state_dict()))}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"not those of resnet20: 72 are .* look like resnet32: use --model.network"):
        load_weights(made(), str(tmp_path / "w.pth"))


@pytest.mark.parametrize("prefix", ["", "model."])
def test_weights_that_lack_one_tensor_are_refused_whatever_their_prefix(
    state: State, prefix: str, tmp_path: Path
) -> None:
    for missing in ("conv1.weight", "layer2.1.bn1.running_mean", "layer3.2.conv2.weight"):
        torch.save(below(prefix, {k: t for k, t in state.items() if k != missing}), tmp_path / "w.pth")
        with pytest.raises(UserError, match=f"not those of resnet20: 1 are missing, .*{missing}"):
            load_weights(made(), str(tmp_path / "w.pth"))


def test_the_colours_of_wrapped_weights_are_adapted_too(donor: StagedNetwork, state: State, tmp_path: Path) -> None:
    torch.save({"state_dict": below("model.", state)}, tmp_path / "w.pth")
    grey = made(in_chans=1)
    load_weights(grey, str(tmp_path / "w.pth"))
    torch.testing.assert_close(grey.body.conv1.weight, donor.body.conv1.weight.sum(1, keepdim=True))


def test_a_dictionary_that_holds_itself_ends(state: State, tmp_path: Path) -> None:
    content: dict[str, Any] = {"a": {"no": 1}}
    content |= {str(number): content for number in range(1000)}
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(UserError, match="holds no state_dict"):
        load_weights(made(), str(tmp_path / "w.pth"))


def test_weights_are_looked_at_before_images_are_decoded(
    fit: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RESNET_TL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "keras.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    for weights in (tmp_path / "keras.h5", "no_such_tag"):
        with caplog.at_level(logging.INFO, logger="resnet_tl"), pytest.raises(UserError):
            fit(weights=str(weights))
    assert "decoded" not in caplog.text


@pytest.fixture(scope="module")
def checkpoint(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a plain Trainer."""
    import lightning as L

    from resnet_tl import ImageClassifier, ImageDataModule

    folder = tmp_path_factory.mktemp("ours")
    model = ImageClassifier(network="resnet20", weights="none")
    data = ImageDataModule(blobs, batch_size=8, image_size=16, workers=0)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = L.Trainer(max_epochs=1, default_root_dir=folder, **quiet)
    trainer.fit(model, datamodule=data)
    trainer.save_checkpoint(folder / "ours.ckpt")
    model.save(folder / "model")
    return folder / "ours.ckpt"


def test_a_checkpoint_of_ours_gives_what_its_bundle_gives(checkpoint: Path) -> None:
    classes = ("blue", "green", "red")
    one, other = made(), made()
    ours = load_weights(one, str(checkpoint), classes)
    theirs = load_weights(other, str(checkpoint.with_name("model")), classes)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))
    assert (ours.image_size, ours.mean, ours.licence) == (theirs.image_size, theirs.mean, theirs.licence)


def test_a_checkpoint_of_ours_names_its_network(checkpoint: Path) -> None:
    with pytest.raises(UserError, match=r"ours\.ckpt holds weights of 'resnet20', but model\.network is 'resnet32'"):
        load_weights(made(name="resnet32"), str(checkpoint))


@pytest.mark.parametrize("said", [None, {}, {"network": 3}, []])
def test_a_checkpoint_of_ours_that_was_changed_is_refused(said: Any, checkpoint: Path, tmp_path: Path) -> None:
    content = torch.load(checkpoint, weights_only=True)
    torch.save({**content, "resnet_tl": said}, tmp_path / "changed.ckpt")
    with pytest.raises(UserError, match=r"is damaged, or no checkpoint of this version"):
        load_weights(made(), str(tmp_path / "changed.ckpt"))
