"""What trains and what does not, with the real Trainer; among it the six faults of Lightning's BackboneFinetuning."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn

from resnet_tl.errors import UserError
from resnet_tl.training.classifier import ImageClassifier
from resnet_tl.training.resuming.resume_points import ResumePoints

Fit = Callable[..., ImageClassifier]
STAGES = ("stem", "stage1", "stage2", "stage3")
HEAD_THEN_ALL = [{"mode": "head", "epochs": 2}, {"mode": "all"}]


class States(L.Callback):
    """The state of every part at the start of each epoch and at the end."""

    def __init__(self) -> None:
        self.states: list[dict[str, dict[str, Tensor]]] = []
        self.rates: list[dict[str, float]] = []

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.rates.append({group["name"]: group["lr"] for group in trainer.optimizers[0].param_groups})
        if batch_idx == 0:
            self.states.append(parts(pl_module))

    def on_train_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.states.append(parts(pl_module))

    def changed(self, epoch: int) -> dict[str, str]:
        """What of each part an epoch changed: nothing, parameters, buffers, both."""
        before, after = self.states[epoch], self.states[epoch + 1]
        return {part: _kinds(before[part], after[part]) for part in before}


def parts(model: ImageClassifier) -> dict[str, dict[str, Tensor]]:
    network = model.network
    assert network is not None
    modules = {name: network.stage(name) for name in network.stage_names} | {"head": network.head}
    return {
        name: {key: tensor.clone() for key, tensor in module.state_dict().items()} for name, module in modules.items()
    }


def _kinds(before: dict[str, Tensor], after: dict[str, Tensor]) -> str:
    differ = {key for key in before if not torch.equal(before[key], after[key])}
    buffers = {key for key in differ if "running" in key or "num_batches" in key}
    names = [name for name, found in (("parameters", differ - buffers), ("buffers", buffers)) if found]
    return " and ".join(names) or "nothing"


def equal(one: ImageClassifier, other: ImageClassifier) -> bool:
    state = other.state_dict()
    return all(torch.equal(tensor, state[key]) for key, tensor in one.state_dict().items())


BOTH = "parameters and buffers"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"mode": "head"}, dict.fromkeys(STAGES, "nothing") | {"head": "parameters"}),
        (
            {"mode": "last_stages", "trainable_stages": 2},
            {"stem": "nothing", "stage1": "nothing", "stage2": BOTH, "stage3": BOTH, "head": "parameters"},
        ),
        ({"mode": "all"}, dict.fromkeys(STAGES, BOTH) | {"head": "parameters"}),
    ],
    ids=["head", "last_stages", "all"],
)
def test_a_mode_trains_exactly_what_it_says(fit: Fit, settings: dict[str, Any], expected: dict[str, str]):
    states = States()

    fit(trainer={"callbacks": [states]}, **settings)

    assert states.changed(0) == expected


def test_pretrained_stages_stay_bit_identical_in_mode_head(fit: Fit):
    from resnet_tl.networks import create_network
    from resnet_tl.networks.weights import load_weights

    model = fit(weights="default", mode="head")

    fresh = create_network("resnet20", num_classes=3)
    load_weights(fresh, "default")
    assert model.network is not None
    for name in STAGES:
        assert _kinds(fresh.stage(name).state_dict(), model.network.stage(name).state_dict()) == "nothing"


def test_every_parameter_of_a_trained_stage_changes(fit: Fit):
    states = States()

    fit(2, trainer={"callbacks": [states]}, mode="all")

    before, after = states.states[0], states.states[-1]
    assert [
        f"{part}.{key}" for part in before for key in before[part] if torch.equal(before[part][key], after[part][key])
    ] == []


def test_linear_probing_then_fine_tuning(fit: Fit):
    states = States()

    fit(3, trainer={"callbacks": [states]}, schedule=HEAD_THEN_ALL)

    probing = dict.fromkeys(STAGES, "nothing") | {"head": "parameters"}
    assert [states.changed(epoch) for epoch in range(2)] == [probing, probing]
    assert states.changed(2) == dict.fromkeys(STAGES, BOTH) | {"head": "parameters"}


def test_one_more_stage_each_epoch(fit: Fit):
    states = States()
    schedule = [
        {"mode": "head", "epochs": 1},
        {"mode": "last_stages", "trainable_stages": 1, "epochs": 1},
        {"mode": "last_stages", "trainable_stages": 3, "epochs": 1},
        {"mode": "all"},
    ]

    fit(4, trainer={"callbacks": [states]}, schedule=schedule)

    frozen = [{part for part, kind in states.changed(epoch).items() if kind == "nothing"} for epoch in range(4)]
    assert frozen == [set(STAGES), set(STAGES[:3]), {"stem"}, set()]


def test_a_stage_can_be_frozen_again(fit: Fit):
    states = States()

    fit(2, trainer={"callbacks": [states]}, schedule=[{"mode": "all", "epochs": 1}, {"mode": "head"}])

    assert states.changed(0)["stage3"] == BOTH
    assert states.changed(1) == dict.fromkeys(STAGES, "nothing") | {"head": "parameters"}


def test_each_phase_has_its_own_learning_rate(fit: Fit):
    states = States()
    schedule = [{"mode": "head", "epochs": 1}, {"mode": "all", "lr": 0.002}]

    fit(
        3,
        trainer={"callbacks": [states]},
        data={"batch_size": 2},
        schedule=schedule,
        backbone_lr_factor=0.1,
        optimizer={"class_path": "torch.optim.SGD", "init_args": {"lr": 0.5}},
    )

    assert max(rates["head"] for rates in states.rates[:12]) == pytest.approx(0.5)
    assert max(rates["head"] for rates in states.rates[12:]) == pytest.approx(0.002)
    assert max(rates["stage3"] for rates in states.rates[12:]) == pytest.approx(0.0002)
    assert states.rates[-1]["head"] < 1e-4


@pytest.mark.parametrize("limits", [{"max_epochs": 4, "accumulate_grad_batches": 2}, {"max_steps": 10}])
def test_the_rate_of_a_phase_begins_with_the_phase_however_steps_are_counted(fit: Fit, limits: dict[str, Any]):
    states = States()
    schedule = [{"mode": "head", "epochs": 2, "lr": 0.001}, {"mode": "all", "lr": 0.001}]

    fit(limits.pop("max_epochs", None), trainer={"callbacks": [states], **limits}, schedule=schedule)

    rates = [rate["head"] for rate in states.rates]
    assert rates[5] < max(rates[:6])
    assert rates[6] > rates[5]
    assert max(rates[6:]) <= 0.001 + 1e-9


# The six faults of Lightning's BackboneFinetuning.


def checkpoints(folder: Path) -> ModelCheckpoint:
    return ModelCheckpoint(dirpath=folder, filename="{epoch}", save_top_k=-1, save_last=True)


def test_a_resume_past_a_phase_change_keeps_what_trains(fit: Fit, tmp_path: Path):
    whole = fit(4, trainer={"callbacks": [checkpoints(tmp_path)], "enable_checkpointing": True}, schedule=HEAD_THEN_ALL)
    states = States()

    resumed = fit(4, trainer={"callbacks": [states]}, schedule=HEAD_THEN_ALL, ckpt_path=str(tmp_path / "epoch=2.ckpt"))

    assert len(states.states) == 2
    assert states.changed(0) == dict.fromkeys(STAGES, BOTH) | {"head": "parameters"}
    assert resumed.network is not None
    assert resumed.network.frozen == frozenset()
    assert equal(whole, resumed)


def test_frozen_batch_norm_does_not_train_its_affine_parameters(fit: Fit):
    """Even where a later phase trains them, so that the optimizer holds them all along."""
    states = States()

    class StopBeforeThatPhase(L.Callback):
        def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
            trainer.should_stop = trainer.current_epoch == 1

    model = fit(3, trainer={"callbacks": [states, StopBeforeThatPhase()]}, schedule=HEAD_THEN_ALL)

    assert model.network is not None
    norms = [module for module in model.network.modules() if isinstance(module, nn.BatchNorm2d)]
    held = {id(p) for group in model.trainer.optimizers[0].param_groups for p in group["params"]}
    assert norms
    assert all(id(norm.weight) in held and not norm.weight.requires_grad for norm in norms)
    assert {states.changed(epoch)[name] for epoch in range(2) for name in STAGES} == {"nothing"}


def test_frozen_batch_norm_normalises_with_its_running_statistics_during_training(fit: Fit):
    differences: list[float] = []

    class Watch(L.Callback):
        def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
            images = pl_module.preprocessing.normalise(batch["image"])
            expected = images
            with torch.no_grad():
                for name in ("stem", "stage1", "stage2"):
                    expected = pl_module.network.stage(name).eval()(expected)
            differences.append(float((pl_module.prefix(batch) - expected).abs().max() / expected.abs().max()))

    fit(2, trainer={"callbacks": [Watch()]}, weights="default", mode="last_stages", activation_cache="off")

    assert len(differences) == 6
    assert max(differences) < 1e-5


def test_no_parameter_is_lost_because_it_equals_another_in_value(fit: Fit):
    """All fresh BatchNorms are alike, and all their biases are zero."""
    model = fit(mode="all")

    assert model.network is not None
    groups = model.trainer.optimizers[0].param_groups
    assert sum(len(group["params"]) for group in groups) == len(list(model.network.parameters()))
    assert all(len(model.trainer.optimizers[0].state[p]) for p in model.network.parameters())


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("LambdaLR", {"lr_lambda": lambda epoch: 0.5**epoch}),
        ("ReduceLROnPlateau", {"factor": 0.5, "patience": 0, "threshold": 1e9, "threshold_mode": "abs"}),
        (None, {}),
    ],
)
def test_a_scheduler_works_through_a_phase_change(fit: Fit, name: str | None, arguments: dict[str, Any]):
    states = States()
    scheduler = {"class_path": f"torch.optim.lr_scheduler.{name}", "init_args": arguments} if name else None

    fit(
        4,
        trainer={"callbacks": [states]},
        schedule=HEAD_THEN_ALL,
        backbone_lr_factor=0.1,
        optimizer={"class_path": "torch.optim.SGD", "init_args": {"lr": 0.2}},
        lr_scheduler=scheduler,
    )

    assert len(states.rates) == 12
    rates = [rate["head"] for rate in states.rates]
    assert all(rate["stage1"] == pytest.approx(0.1 * rate["head"]) for rate in states.rates)
    if name:
        firsts = [0.2, 0.1, 0.05, 0.025] if name == "LambdaLR" else [0.2, 0.2, 0.1, 0.05]
        assert rates[::3] == pytest.approx(firsts)
    assert states.changed(3) == dict.fromkeys(STAGES, BOTH) | {"head": "parameters"}


def test_the_learning_rate_factors_have_effect(fit: Fit):
    """With plain SGD a step is the gradient times the rate."""

    def first_step(**settings: Any) -> dict[str, Tensor]:
        states = States()
        sgd = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}}
        fit(trainer={"callbacks": [states], "limit_train_batches": 1}, mode="all", optimizer=sgd, **settings)
        before, after = states.states
        weights = {part: next(key for key, t in before[part].items() if t.ndim > 1) for part in before}
        return {part: after[part][key] - before[part][key] for part, key in weights.items()}

    whole, tenth = first_step(backbone_lr_factor=1.0), first_step(backbone_lr_factor=0.1)
    decayed = first_step(backbone_lr_factor=1.0, layer_decay=0.5)

    for depth, name in enumerate(reversed(STAGES)):
        assert whole[name].abs().max() > 1e-4
        torch.testing.assert_close(tenth[name], 0.1 * whole[name], rtol=0.02, atol=1e-6)
        torch.testing.assert_close(decayed[name], 0.5**depth * whole[name], rtol=0.02, atol=1e-6)
    assert torch.equal(tenth["head"], whole["head"])


# Who breaks the rule is found out.


class Misbehaves(L.Callback):
    def __init__(self, misdeed: str) -> None:
        self.misdeed = misdeed

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        stage = pl_module.network.stage("stage2")
        norm = next(module for module in stage.modules() if isinstance(module, nn.BatchNorm2d))
        if self.misdeed == "trains weights":
            stage.train().requires_grad_(True)
            with torch.no_grad():
                norm.weight.mul_(0.99)
        elif self.misdeed == "moves statistics":
            stage.train()(torch.ones(2, 16, 8, 8))
        elif self.misdeed == "unfreezes":
            stage.train().requires_grad_(True)


@pytest.mark.parametrize("misdeed", ["trains weights", "moves statistics"])
@pytest.mark.parametrize("settings", [{"mode": "head"}, {"schedule": HEAD_THEN_ALL}])
def test_a_callback_that_changes_frozen_stages_is_found_out(fit: Fit, settings: dict[str, Any], misdeed: str):
    with pytest.raises(UserError, match=r"frozen stages .*stage2.* changed during a phase"):
        fit(3, trainer={"callbacks": [Misbehaves(misdeed)]}, **settings)


def test_frozen_stages_that_change_while_a_run_is_interrupted_are_found_out(fit: Fit, tmp_path: Path):
    class PowerFailure(L.Callback):
        def on_before_optimizer_step(self, trainer: L.Trainer, *_: Any) -> None:
            if trainer.global_step == 4:
                raise RuntimeError("no power")

    points = ResumePoints(every=0, folder=tmp_path)
    with pytest.raises(RuntimeError, match="no power"):
        fit(2, mode="head", trainer={"callbacks": [points, PowerFailure()], "enable_checkpointing": True})
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    checkpoint["state_dict"]["network.body.layer2.0.bn1.running_mean"] += 0.01
    torch.save(checkpoint, tmp_path / "last.ckpt")

    with pytest.raises(UserError, match="changed during a phase"):
        fit(3, mode="head", ckpt_path=tmp_path / "last.ckpt")


def test_each_phase_is_proved(fit: Fit):
    model = fit(3, schedule=[{"mode": "head", "epochs": 1}, {"mode": "last_stages", "epochs": 1}, {"mode": "all"}])

    assert model.network is not None
    frozen = [list(STAGES), list(STAGES[:3]), []]
    assert [(proof.phase, sorted(proof.frozen)) for proof in model.freezing.proofs] == [
        (number, sorted(stages)) for number, stages in enumerate(frozen)
    ]
    assert model.freezing.proofs[1].sha256 != model.freezing.proofs[0].sha256
    assert model.freezing.proofs[2].sha256 == hashlib.sha256().hexdigest()


@pytest.mark.parametrize("cached", ["on", "off"])
def test_a_callback_that_only_unfreezes_does_no_harm(fit: Fit, cached: str):
    """What trains sees the frozen copy of the stages, which nobody can unfreeze."""
    settings = {"mode": "head", "activation_cache": cached, "data": {"augmentation": "none"}}
    model, other = fit(3, **settings), fit(3, trainer={"callbacks": [Misbehaves("unfreezes")]}, **settings)

    assert model.numbers == other.numbers
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))


def test_a_callback_that_calls_train_on_the_module_does_no_harm(fit: Fit):
    class CallsTrain(L.Callback):
        def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
            pl_module.train()
            pl_module.network.train()

    states = States()

    fit(trainer={"callbacks": [CallsTrain(), states]}, mode="head")

    assert states.changed(0) == dict.fromkeys(STAGES, "nothing") | {"head": "parameters"}


def test_a_second_fit_of_the_same_model_begins_with_the_first_phase(fit: Fit):
    model = fit(3, schedule=HEAD_THEN_ALL)
    states = States()

    fit(3, model=model, trainer={"callbacks": [states]})

    assert states.changed(0) == dict.fromkeys(STAGES, "nothing") | {"head": "parameters"}
    assert states.changed(2)["stem"] == BOTH
