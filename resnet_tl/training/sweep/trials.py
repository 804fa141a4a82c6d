"""The trials of a sweep, kept in an SQLite file by optuna: which settings come next, and what became of each.

What is tried next is a function of the seed and of the trials before it alone. So a sweep that is interrupted, by
whatever, goes on as if nothing had happened.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

import numpy as np

from resnet_tl.errors import UserError
from resnet_tl.training.sweep.space import Dimension, Value

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.trial import FrozenTrial

NAME = "sweep"
DIRECTIONS: dict[str, Literal["minimize", "maximize"]] = {"min": "minimize", "max": "maximize"}
PATIENCE = 10
"""Draws of the sampler that may be of settings tried before; then others are drawn at random, after as many again with
all their digits, since a narrow range may have none left with few."""
ERROR, PRUNED_AFTER = "error", "pruned_after"
"""Under which the sentence of a trial that failed, and the epoch after which one was pruned, are kept."""


class Trials:
    """The trials of one sweep, opened or begun.

    Args:
        file: the SQLite file.
        space: the settings that are varied.
        mode: min or max, which of the monitored number is better.
        seed: of the sampler.

    Raises:
        UserError: optuna is not installed, or the file is not what it was.
    """

    def __init__(self, file: Path, space: Sequence[Dimension], mode: str, seed: int) -> None:
        check_optuna()
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.mode, self.seed = space, mode, seed
        try:
            self.storage = optuna.storages.RDBStorage(f"sqlite:///{quote(str(file.resolve()))}")
            self.study = optuna.create_study(
                storage=self.storage,
                study_name=NAME,
                direction=DIRECTIONS[mode],
                pruner=optuna.pruners.MedianPruner(),
                load_if_exists=True,
            )
        except Exception as error:  # SQLite's, SQLAlchemy's and optuna's own, by what is wrong with the file
            reason = str(error).partition("\n")[0]
            raise UserError(
                f"{file} cannot be opened as the trials of a sweep: {reason}; start a new sweep with another --run."
            ) from error

    @property
    def most(self) -> float:
        """How many different trials there are at most."""
        return math.prod(dimension.count for dimension in self.space)

    @property
    def all(self) -> list[FrozenTrial]:
        """Those that were begun, in their order."""
        return self.study.get_trials(deepcopy=False)

    @property
    def finished(self) -> int:
        """How many of them have a result, or have failed."""
        return sum(trial.state.is_finished() for trial in self.all)

    def next(self) -> tuple[Trial, Mapping[str, Value]]:
        """The trial that was interrupted, else a new one, which is in the file as soon as it is known; its settings."""
        import optuna

        known = self.all
        if not known or known[-1].state.is_finished():
            settings = propose(known, self.space, self.mode, self.seed)
            distributions = {dimension.key: dimension.distribution() for dimension in self.space}
            running = optuna.trial.TrialState.RUNNING
            self.study.add_trial(optuna.create_trial(state=running, params=dict(settings), distributions=distributions))
        newest, study = self.all[-1], self.storage.get_study_id_from_name(NAME)
        place = self.storage.get_trial_id_from_study_id_trial_number(study, newest.number)
        return optuna.Trial(self.study, place), newest.params

    def finish(self, trial: Trial, value: float) -> None:
        """Keeps the monitored number of a trial that came to its end, or was pruned."""
        import optuna

        if PRUNED_AFTER in trial.user_attrs:  # its value is then the last that it reported
            self.study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            self.study.tell(trial, value)

    def fail(self, trial: Trial, sentence: str) -> None:
        """Keeps why a trial has no result."""
        import optuna

        trial.set_user_attr(ERROR, sentence)
        self.study.tell(trial, state=optuna.trial.TrialState.FAIL)


def propose(known: Sequence[FrozenTrial], space: Sequence[Dimension], mode: str, seed: int) -> dict[str, Value]:
    """The settings of the next trial, which no trial has had; of a space in which some are left.

    By the tree-structured Parzen estimator (Bergstra et al. 2011), all settings together, as optuna 5 does by default:
    the first ten trials are drawn at random. Every draw has a sampler of its own, seeded by the number of the trial.
    """
    import optuna

    tried = [trial.params for trial in known]
    distributions = {dimension.key: dimension.distribution() for dimension in space}
    for attempt in count():
        own = int(np.random.SeedSequence([seed, len(known), attempt]).generate_state(1)[0])
        samplers = optuna.samplers
        sampler = samplers.TPESampler(seed=own) if attempt < PATIENCE else samplers.RandomSampler(seed=own)
        study = optuna.create_study(direction=DIRECTIONS[mode], sampler=sampler)
        study.add_trials(known)
        drawn = study.ask(distributions).params
        settings: dict[str, Value] = drawn
        if attempt < 2 * PATIENCE:
            settings = {dimension.key: dimension.rounded(drawn[dimension.key]) for dimension in space}
        if settings not in tried:
            return settings
    raise AssertionError("a count does not end")


def check_optuna() -> None:
    """Raises UserError where optuna is not installed."""
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise UserError('A sweep needs optuna, which is not installed: pip install "resnet-tl[sweep]".') from error
