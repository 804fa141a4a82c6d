"""What a user gets who says nothing but the mode."""

from __future__ import annotations

from resnet_tl.finetuning.defaults import DEFAULTS, defaults_for
from resnet_tl.finetuning.modes import MODES


def test_every_mode_has_its_defaults():
    assert set(DEFAULTS) == set(MODES)
    assert [defaults_for(mode) for mode in MODES] == [DEFAULTS[mode] for mode in MODES]


def test_a_schedule_has_the_defaults_of_training_everything():
    assert defaults_for("head", [{"mode": "head", "epochs": 3}, {"mode": "all"}]) == DEFAULTS["all"]


def test_a_pretrained_backbone_learns_slower_than_its_new_head():
    assert all(0 < DEFAULTS[mode].backbone_lr_factor < 1 for mode in ("all", "last_stages"))
