"""`resnet-tl sweep`: many fits that differ in some settings, the best of them, and what it is worth."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from resnet_tl import failures, stopping, timing
from resnet_tl.cli.fit import free_on_resume
from resnet_tl.cli.loading import loading
from resnet_tl.cli.sweep_options import TRIALS, Begun, begun_by, check_unchanged, checked_space, parse
from resnet_tl.cli.tables import print_table
from resnet_tl.errors import UserError
from resnet_tl.run import Run, check_root
from resnet_tl.terminal import current

if TYPE_CHECKING:
    from resnet_tl.training.classifier import ImageClassifier
    from resnet_tl.training.sweep.results import Result
    from resnet_tl.training.sweep.space import Dimension
    from resnet_tl.training.sweep.trials import Trials


QUIET = ("resnet_tl.data", "resnet_tl.training.solve_head")
"""Who describes the images, and each penalty of a head: once is enough, of many trials."""


def main(argv: list[str]) -> None:
    """Trains what is left of the trials, and says which is the best and what it is worth."""
    arguments, flags = parse(argv)
    with stopping.handled(), failures.reported():
        folder, begun = begun_by(arguments, flags)
        with loading(is_log=True), stopping.untouched():
            from resnet_tl.cli import fit_parser  # noqa: F401 with all that takes time to load
            from resnet_tl.training.sweep.trials import check_optuna

            check_optuna()
        space = checked_space(begun)
        if is_new := folder is None:
            folder = _begin(arguments.run, begun)
        check_unchanged(folder, begun)
        try:
            _Sweep(folder, begun, space).run(arguments.trials, is_new)
        except stopping.Stopped as stop:
            advice = f"; go on with: resnet-tl sweep --resume {quote(str(folder))}"
            raise stopping.Stopped(stop.signal, advice, stop.together) from None
        finally:
            for name in QUIET:
                logging.getLogger(name).setLevel(logging.NOTSET)


def _begin(folder: Path | None, begun: Begun) -> Path:
    """Makes the folder of a new sweep; UserError as of `_checked`."""
    check_root(folder.parent if folder else "runs")
    model = _checked(begun)
    name = f"{Path(begun.recipe).stem}-sweep"
    path = (Run.create_at(folder) if folder else Run.create("runs", name)).path
    begun.write(path, monitor=model.hparams["monitor"], monitor_mode=model.monitor_mode, trials=TRIALS)
    return path


def _checked(begun: Begun) -> ImageClassifier:
    """The model without the space; UserError where the recipe is no fit as it stands and here, or none for a sweep."""
    from resnet_tl.cli.fit_parser import FitCLI

    cli = FitCLI([Path(begun.recipe)], [*begun.flags, f"--seed={begun.seed}"])
    if cli.whole or cli.datamodule.final:
        raise UserError(f"{begun.recipe} is of folds or of a final run, but each trial of a sweep is one fit.")
    if cli.trainer.world_size > 1:
        raise UserError("A sweep trains in one process: leave out --trainer.devices, torchrun and srun.")
    cli.check()
    if not len(cli.datamodule.index.rows("val")):
        raise UserError("There are no validation images, by which trials are compared: give --data.val_fraction 0.2.")
    return cli.model


class _Sweep:
    """A sweep that has begun."""

    def __init__(self, folder: Path, begun: Begun, space: Sequence[Dimension]) -> None:
        self.folder, self.begun, self.space = folder, begun, space
        self.facts = Begun.read(folder)[1]
        self.monitor, self.mode = self.facts["monitor"], self.facts["monitor_mode"]

    def run(self, wanted: int | None, is_new: bool) -> None:
        """Trains until there are as many trials as wanted, now or before, and writes and says what they have found."""
        from resnet_tl.training.sweep.results import write_trials
        from resnet_tl.training.sweep.trials import Trials

        lock = Run(self.folder).lock()
        try:
            trials = Trials(self.folder / "trials.db", self.space, self.mode, self.begun.seed)
            if wanted is not None and wanted != self.facts["trials"]:
                self.facts["trials"] = wanted
                self.begun.write(self.folder, **self.facts)
            wanted = self.facts["trials"]
            total = int(min(wanted, trials.most))
            if total < wanted:
                current().print(f"The space holds {total} different settings, so there are {total} trials.")
            if trials.finished < total and not is_new:
                _checked(self.begun)  # what is amiss by now, as another folder, would fail each trial for good
            while trials.finished < total:
                (self.folder / "summary.json").unlink(missing_ok=True)  # of fewer trials
                self._train(trials, total)
                write_trials(self._results(trials), self.monitor, self.folder)
            self._conclude(self._results(trials))
        finally:
            with suppress(OSError):  # as on Windows, which removes no open file
                Path(lock.lock_file).unlink()
            lock.release()

    def _results(self, trials: Trials) -> list[Result]:
        from resnet_tl.training.sweep.results import Result

        return [Result.of(trial, self.space, self.folder) for trial in trials.all]

    def _train(self, trials: Trials, total: int) -> None:
        """Trains the next trial, or what is left of it; a mistake of its settings is its own."""
        from resnet_tl.cli.fit_parser import FitCLI
        from resnet_tl.evaluation.comparing.comparison import check_same_images
        from resnet_tl.evaluation.words import metric_name, metric_value
        from resnet_tl.training.sweep.pruning import Pruning
        from resnet_tl.training.sweep.results import trial_run, written

        trial, drawn = trials.next()
        settings, screen = written(drawn, self.space), current()
        run = trial_run(self.folder, trial.number)
        said = ", ".join(f"{key} {value}" for key, value in settings.items())
        screen.print(f"\nTrial {trial.number + 1} of {total}: {said}")
        timing.phase("start-up")
        try:
            if not run.is_complete:  # else only that was not kept
                begun = run if run.recipe_file.is_file() else None
                recipe, flags = run.recipe_file, free_on_resume(self.begun.flags)
                if begun is None:
                    shutil.rmtree(run.path, ignore_errors=True)  # which was killed before its training began
                    words = [f"--{key}={value}" for key, value in settings.items()]
                    own = [f"--seed={self.begun.seed}", f"--run={run.path}"]
                    recipe, flags = Path(self.begun.recipe), [*self.begun.flags, *own, *words]
                FitCLI([recipe], flags, begun, callbacks=[Pruning(trial)]).run()
        except UserError as error:
            trials.fail(trial, str(error))
            screen.print(f"Trial {trial.number + 1} failed: {error}")
            return
        for name in QUIET:
            logging.getLogger(name).setLevel(logging.WARNING)
        run = Run(run.path)
        complete = [result.run for result in self._results(trials) if result.is_complete]
        check_same_images(complete[0], run, "val")
        name, numbers = metric_name(self.monitor), run.summary["metrics"]["val"]
        value = numbers.get(self.monitor.removeprefix("val_"))
        if value is None:
            trials.fail(trial, f"Its {name} is no number.")
        else:
            trials.finish(trial, value)
            said = (
                f"{name} {metric_value(self.monitor, value)}, accuracy {metric_value('accuracy', numbers['accuracy'])}"
            )
            screen.print(f"Trial {trial.number + 1} of {total}: {said}")

    def _conclude(self, results: Sequence[Result]) -> None:
        """Writes and prints what all trials have found; UserError where none came to its end."""
        from resnet_tl.cli.next_command import next_command
        from resnet_tl.terminal import shortest
        from resnet_tl.training.sweep.results import sentences, summarised, table_of, write_summary

        screen = current()
        failed = [result for result in results if result.error]
        if len(failed) == len(results):
            raise UserError(f"None of the {len(results)} trials came to its end. The first: {failed[0].error}")
        summary = summarised(results, self.monitor, self.mode)
        write_summary(summary, self.folder)
        header, rows = table_of(results, self.monitor, self.mode)
        screen.print()
        print_table(header, rows, numbers=header[:-1], rule=False)
        screen.print()
        for result in failed:
            screen.print(f"Trial {result.number} failed: {result.error}")
        for line in sentences(summary):
            screen.print(line)
        best = next(result.run for result in results if result.number == summary["best_trial"])
        path = shortest(best.path)
        screen.print(f"\nWritten: {shortest(self.folder)}/summary.json and trials.csv")
        for line in next_command(best, path):
            screen.print(f"Use it: {line}" if line.startswith("resnet-tl ") else line, is_command=True)
        screen.print(f"Train it again: resnet-tl fit --recipe {quote(f'{path}/recipe.yaml')}", is_command=True)
