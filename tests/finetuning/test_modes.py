"""Modes, phases and the proof of freezing, without a Trainer."""

from __future__ import annotations

import pytest
import torch

from resnet_tl.errors import UserError
from resnet_tl.finetuning.freezing import check_frozen, digest
from resnet_tl.finetuning.modes import Phase, Schedule
from resnet_tl.networks import create_network

STAGES = ("stem", "stage1", "stage2", "stage3")


@pytest.mark.parametrize(
    ("phase", "frozen"),
    [
        (Phase("all"), ()),
        (Phase("head"), STAGES),
        (Phase("last_stages", trainable_stages=1), ("stem", "stage1", "stage2")),
        (Phase("last_stages", trainable_stages=3), ("stem",)),
    ],
)
def test_a_mode_freezes_a_prefix_of_the_stages(phase: Phase, frozen: tuple[str, ...]):
    assert phase.frozen_stages(STAGES) == frozen


@pytest.mark.parametrize("number", [0, -1, 4, 9])
def test_last_stages_must_leave_some_frozen_and_some_trained(number: int):
    with pytest.raises(UserError, match=rf"trainable_stages is {number};.*must be 1 to 3"):
        Phase("last_stages", trainable_stages=number).frozen_stages(STAGES)


def test_a_network_of_one_stage_trains_it_as_its_last():
    assert Phase("last_stages").frozen_stages(("backbone",)) == ()
    with pytest.raises(
        UserError, match="trainable_stages is 2; this network has the stages backbone, so it must be 1 "
    ):
        Phase("last_stages", trainable_stages=2).frozen_stages(("backbone",))


def test_the_phase_is_a_function_of_the_epoch():
    schedule = Schedule((Phase("head", 2), Phase("last_stages", 3), Phase("all")))

    assert schedule.starts() == [0, 2, 5]
    assert [schedule.phase_at(epoch) for epoch in range(8)] == [0, 0, 1, 1, 1, 2, 2, 2]


def test_a_schedule_ends_when_its_last_phase_does():
    assert Schedule((Phase("head", 2), Phase("all", 3))).epochs() == 5
    assert Schedule((Phase("head", 2), Phase("all"))).epochs() is None


def test_the_size_of_training_images_is_a_function_of_the_epoch():
    schedule = Schedule((Phase(epochs=2, image_size=96), Phase(epochs=3), Phase("last_stages", norms_only=True)))

    assert schedule.train_sizes(image_size=128, test_size=160) == {0: 96, 2: 128, 5: 160}


def test_the_rate_begins_again_where_more_than_the_size_differs():
    sizes = Phase(epochs=2, image_size=96), Phase(epochs=3, image_size=128), Phase(epochs=1)
    assert Schedule((Phase("head", 1), *sizes, Phase(norms_only=True))).curves() == [0, 1, 4]
    assert Schedule((*sizes, Phase(lr=0.1))).curves() == [0, 3]
    assert Schedule((Phase(epochs=1), Phase(epochs=2), Phase())).curves() == [0, 1, 2]


def test_a_stage_is_ever_trained_when_one_phase_trains_it():
    schedule = Schedule((Phase("head", 1), Phase("last_stages", 1, trainable_stages=2), Phase("last_stages")))

    assert schedule.ever_trained(STAGES) == ("stage2", "stage3")
    assert Schedule((Phase("head"),)).ever_trained(STAGES) == ()


@pytest.mark.parametrize(
    ("phases", "sentence"),
    [
        ((), "schedule is empty"),
        ((Phase("heads"),), "'heads'; it must be one of all, last_stages, head. Did you mean .head"),  # type: ignore[arg-type]
        ((Phase("head"), Phase("all")), "Phase 1 .* has no epochs"),
        ((Phase("head", 0), Phase("all")), "Phase 1 .* has 0 epochs"),
    ],
)
def test_a_wrong_schedule_is_refused_with_a_sentence(phases: tuple[Phase, ...], sentence: str):
    with pytest.raises(UserError, match=sentence):
        Schedule(phases)


@pytest.mark.parametrize("key", ["weight", "running_mean", "num_batches_tracked"])
def test_the_proof_notices_a_change_of_any_parameter_or_buffer(key: str):
    network = create_network("resnet20", num_classes=3)
    network.freeze(STAGES)
    before = digest(network, network.frozen)
    check_frozen(network, before)

    norm = next(module for module in network.stage("stage2").modules() if isinstance(module, torch.nn.BatchNorm2d))
    tensor = norm.state_dict()[key]
    tensor.view(-1)[-1:] += 1

    with pytest.raises(UserError, match="changed during a phase"):
        check_frozen(network, before)


def test_the_proof_does_not_mind_what_trains():
    network = create_network("resnet20", num_classes=3)
    network.freeze(("stem", "stage1"))
    before = digest(network, network.frozen)

    with torch.no_grad():
        for part in (network.stage("stage2"), network.head):
            for parameter in part.parameters():
                parameter += 1

    check_frozen(network, before)


def test_the_proof_notices_two_blocks_that_swapped_their_weights():
    network = create_network("resnet20", num_classes=3)
    first, second = network.stage("stage3")[0][1:3]
    before = digest(network, ["stage3"])

    state = {key: tensor.clone() for key, tensor in first.state_dict().items()}
    first.load_state_dict(second.state_dict())
    second.load_state_dict(state)

    assert digest(network, ["stage3"]) != before


def test_a_phase_that_has_begun_is_cut_in_two():
    schedule = Schedule((Phase("all"),)).shortened(total=8, done=2, left=3)

    assert schedule.phases == (Phase("all", 2, rate_epochs=8), Phase("all", 3, rate_epochs=5, rate_start=2))


def test_phases_that_differ_in_size_alone_remain_one_curve():
    schedule = Schedule((Phase(epochs=4, image_size=96), Phase(epochs=4, image_size=128)))
    early, late = schedule.shortened(8, 2, 3), schedule.shortened(8, 6, 1)

    assert [phase.epochs for phase in early.phases] == [2, 1, 2]
    assert early.curves() == [0, 1]
    assert [(phase.rate_epochs, phase.rate_start) for phase in early.phases] == [(8, 0), (5, 2), (5, 2)]
    assert [phase.epochs for phase in late.phases] == [4, 2, 1]
    assert late.curves() == [0, 2]
    assert [(phase.rate_epochs, phase.rate_start) for phase in late.phases] == [(8, 0), (8, 0), (7, 6)]


def test_later_phases_are_shortened_alike_and_keep_an_epoch_each():
    schedule = Schedule((Phase("head", 2), Phase("last_stages", 6), Phase("all", 4)))

    assert [phase.epochs for phase in schedule.shortened(12, 2, 5).phases] == [2, 3, 2]
    assert [phase.epochs for phase in schedule.shortened(12, 4, 4).phases] == [2, 2, 2, 2]
    assert [phase.epochs for phase in schedule.shortened(12, 4, 1).phases] == [2, 2, 1, 1]
    assert schedule.shortened(12, 2, 5).phases[1] == Phase("last_stages", 3)


@pytest.mark.parametrize("phase", [Phase("all", 3, rate_epochs=2), Phase("all", 3, rate_start=1), Phase(rate_start=-1)])
def test_a_part_must_lie_in_its_whole(phase: Phase):
    with pytest.raises(UserError, match="in which its epochs do not fit"):
        Schedule((phase,))
