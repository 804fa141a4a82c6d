"""The parser behind `resnet-tl fit`: LightningCLI with recipes, per-mode defaults, and errors in one sentence."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Any, Literal

import yaml
from jsonargparse import ActionConfigFile, ArgumentError
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, DeviceStatsMonitor, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.plugins.io import CheckpointIO
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch.optim import AdamW

from resnet_tl import failures, stopping, timing
from resnet_tl.cli.final_run import facts_of_parent
from resnet_tl.cli.find_lr import check_find, show_rates
from resnet_tl.cli.head_solver import choose_head_solver
from resnet_tl.cli.parse_errors import Given, check, class_at, given_settings, last_given, named, plain
from resnet_tl.cli.trainer_settings import check_settings
from resnet_tl.data.datamodule import ImageDataModule
from resnet_tl.errors import UserError
from resnet_tl.finetuning.defaults import PENALTIES, defaults_for
from resnet_tl.recipe import load_recipe, resolved_text
from resnet_tl.run import Run
from resnet_tl.terminal import current, shortest
from resnet_tl.training.budget.plan import Plan
from resnet_tl.training.budget.shortening import Budget, seconds_of
from resnet_tl.training.classifier import ImageClassifier
from resnet_tl.training.console.forecast import Forecast, print_forecast
from resnet_tl.training.console.progress import FitProgress
from resnet_tl.training.console.time_spent import TimeKeeper
from resnet_tl.training.fit import best_checkpoint, fit, train
from resnet_tl.training.folds import FoldsRecorder
from resnet_tl.training.numbers.monitor import check_monitor
from resnet_tl.training.rate_finder import RateFinder
from resnet_tl.training.recorder import RunRecorder
from resnet_tl.training.resuming.deferred_checkpoints import DeferredCheckpointIO
from resnet_tl.training.resuming.resume_points import ResumePoints, requeue
from resnet_tl.training.trainer.launching import check_input, launch, leave_signals, starts_processes
from resnet_tl.training.trainer.precision import choose_precision
from resnet_tl.training.trainer.trainer_checks import check_trainer
from resnet_tl.training.trainer.untrue_warnings import silence_untrue_warnings

TRAINER_DEFAULTS = {
    "logger": False,  # metrics.csv and figures are always written; TensorBoard and others on request
    "enable_model_summary": False,  # our stage table says more
    "num_sanity_val_steps": 0,  # every image has been decoded before
    "use_distributed_sampler": False,  # our loaders shard themselves
    "log_every_n_steps": 10,
    "precision": "auto",
}

PROFILERS = "lightning.pytorch.profilers.profiler"
NEED_LOGGER = (DeviceStatsMonitor, LearningRateMonitor)

# The weights stay float32 in all of them; null is Lightning's 32-true.
Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed", 32, 16, "32", "16", "bf16"]


class FitTrainer(Trainer):
    """Lightning's Trainer as the parser knows it, with a precision `auto` that is resolved before one is made."""

    def __init__(self, *, precision: Precision | None = "auto", **settings: Any) -> None:
        super().__init__(precision=precision, **settings)  # type: ignore[arg-type]


SECTIONS = {"data": ImageDataModule, "model": ImageClassifier, "trainer": FitTrainer}


class FitCLI(LightningCLI):
    """Parses recipes and flags, makes data module, classifier and trainer, and fits; by a plan where there is one."""

    def __init__(
        self,
        recipes: list[Path],
        flags: list[str],
        resumed: Run | None = None,
        whole: FoldsRecorder | None = None,
        plan: Plan | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self.resumed = resumed
        self.callbacks = callbacks  # of a sweep, which are no part of the recipe
        self.whole = whole  # of a run of folds, of which this fits the next one
        self.plan = plan
        self.recipes = {str(path): load_recipe(path) for path in recipes}
        flags = [*flags, *(plan.flags if plan else ())]
        given = given_settings(self.recipes, flags)
        check(given, SECTIONS)
        self.given = given
        self.forecast: Forecast | None = None
        self.rates: RateFinder | None = None
        # Setting -> what `auto` became, and why
        self.resolved: dict[str, tuple[Any, str]] = dict(plan.settings) if plan else {}
        if (last_given(given, "model.head_solver") or "auto") == "auto":
            self.resolved["model.head_solver"] = choose_head_solver(given)
        _quiet()
        # MLflow refuses Lightning's default for its store, a folder, unless it is told otherwise.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        super().__init__(
            ImageClassifier,
            ImageDataModule,
            save_config_callback=None,
            trainer_class=FitTrainer,
            trainer_defaults=TRAINER_DEFAULTS,
            parser_kwargs={"allow_abbrev": False, "exit_on_error": False, "prog": "resnet-tl fit"},
            args=[*(f"--recipe={path}" for path in recipes), *(item.word for item in given if item.is_flag)],
            run=False,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        parser = self.parser_class(**kwargs)
        parser.add_argument("--recipe", action=ActionConfigFile, help="a recipe's name or file; may be given again")
        return parser

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--seed", type=int, default=0, help="of everything that is random")
        parser.add_argument("--forecast", action="store_true", help="estimate how long the fit would take, and end")
        parser.add_argument("--find_lr", action="store_true", help="try growing learning rates, suggest one, and end")
        parser.add_argument("--verbose", action="store_true", help="at the end, show where all of the time went")
        parser.add_argument(
            "--checkpoint_every", type=str, default="10m", help="of a long epoch: 30s, 10m or 1.5h; what a crash costs"
        )
        parser.add_argument("--run", type=str | None, default=None, help="folder of the run; default: runs/RECIPE-N")
        parser.add_argument("--final", type=str | None, default=None, help="repeat a run on all of its images")

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_optimizer_args(link_to="model.optimizer")
        parser.add_lr_scheduler_args(link_to="model.lr_scheduler")
        parser.link_arguments("seed", "data.seed")
        parser.link_arguments("seed", "model.seed")
        # A recipe's rate stands with its optimizer, and its classes are those of its images.
        for name in ("lr", "classes"):
            parser.link_arguments("seed", f"model.{name}", compute_fn=lambda _: None)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Some defaults depend on the mode and the optimizer, which are read from recipes and flags beforehand."""
        solver, _ = self.resolved.get("model.head_solver", (last_given(self.given, "model.head_solver"), ""))
        if solver == "lbfgs" and any(
            item.key.startswith("optimizer") and item.loaded is not None for item in self.given
        ):
            raise UserError(
                "model.head_solver lbfgs takes the place of an optimizer: leave that out, or give --optimizer null."
            )
        parser.set_defaults(_defaults(self.given, solver))
        try:
            self.config = parser.parse_args(args)
        except ArgumentError as error:
            raise UserError(plain(str(error))) from error
        self.config.model.head_solver = solver
        if self.config.find_lr:
            check_find(self.config, solver)
        if solver == "lbfgs" and self.config.forecast:  # of the features, which take longer than the solution
            self.config.model.head_solver, self.config.model.activation_cache = "optimizer", "on"
            self.config.trainer.max_epochs = 1
        elif solver != "lbfgs" and self.config.optimizer is None:
            raise UserError("optimizer is null; it must be an optimizer of torch such as AdamW or SGD.")

    def _set_seed(self) -> None:
        """Nothing draws from a global generator that was not seeded for its purpose (rule 2 of the design)."""

    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except (MisconfigurationException, ImportError, ValueError, RuntimeError) as error:
            # A package that is missing, or settings that do not go together.
            raise UserError(plain(str(error))) from error
        if "model.head_solver" in self.resolved:
            self.model.resolved["model.head_solver"] = self.resolved["model.head_solver"]

    def before_instantiate_classes(self) -> None:
        """Refuses what Lightning would take, or would refuse in words for programmers."""
        trainer = self.config.trainer
        check_settings(trainer)
        if trainer.precision == "auto":
            trainer.precision, why = choose_precision(str(trainer.accelerator))
            if trainer.precision == "16-mixed" and self.config.model.head_solver == "lbfgs":
                trainer.precision, why = "32-true", "a head that is solved needs more digits than 16-mixed has"
            self.resolved["trainer.precision"] = (trainer.precision, why)
        self._choose_fold()
        scheduler = (self.config.lr_scheduler or {}).get("init_args", {})
        if "monitor" in scheduler:
            own = self.config.model.metrics
            check_monitor("lr_scheduler.monitor", scheduler["monitor"], scheduler["mode"], own)

    def _choose_fold(self) -> None:
        """Folds of which none is named are trained one after another, each in a run of its own."""
        data = self.config.data
        if data.folds is None or data.fold is not None or data.final:
            return
        self.whole = self.whole or FoldsRecorder(
            self._name, self.config.run, data.folds, list(map(Path, self.recipes)), self.resumed
        )
        data.fold = min(self.whole.next or data.folds, data.folds)
        self.resumed = self.whole.run.fold(data.fold) if self.whole.run else None

    @property
    def _name(self) -> str:
        """The first part of the run's name."""
        if self.config.final:
            return f"{Path(self.config.final).resolve().name}-final"
        return Path(list(self.recipes)[-1]).stem if self.recipes else "fit"

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        if self.config.forecast:
            self.forecast = Forecast(len(self.model.schedule.phases), self.config.trainer.as_dict())
            kwargs |= self.forecast.trainer_settings
            return super().instantiate_trainer(callbacks=[TimeKeeper(), self.forecast], **kwargs)
        if self.config.find_lr:
            self.rates = RateFinder(self.config.trainer.as_dict())
            return super().instantiate_trainer(
                callbacks=[TimeKeeper(), self.rates], **kwargs | self.rates.trainer_settings
            )
        paths = [Path(path) for path in self.recipes]
        logs = self.config.trainer.logger is True
        parent = facts_of_parent(Run.open(self.config.final)) if self.config.final else None
        self.recorder = RunRecorder(
            self._name, self.config.run, self._resolved_recipe, paths, self.resumed, logs, self.whole, parent
        )
        if logs:  # Lightning's default logger, in the run that is yet to be made
            kwargs["logger"] = False
        best = best_checkpoint(self.model.hparams["monitor"], self.model.monitor_mode, not self.datamodule.final)
        callbacks = [self.recorder, ResumePoints(seconds_of("checkpoint_every", self.config.checkpoint_every)), best]
        callbacks += self.callbacks
        if self.plan or self.resumed:
            started = self.plan.facts["started"] if self.plan else time.time() - sum(timing.seconds().values())
            callbacks.insert(0, Budget(self.recorder, self.plan, started))
        if self.config.trainer.enable_progress_bar is not False:
            callbacks.append(FitProgress())
        given = _several(self.config_init.trainer.callbacks)
        for callback in given:
            if isinstance(callback, NEED_LOGGER) and not self.config.trainer.logger:
                raise UserError(
                    f"trainer.callbacks: {type(callback).__name__} writes to a logger, and there is none: "
                    "add --trainer.logger true."
                )
            if isinstance(callback, ModelCheckpoint) and (callback.dirpath, callback.filename) == (None, "best"):
                raise UserError(
                    "trainer.callbacks: best is the name of the run's own checkpoint: give "
                    "--trainer.callbacks.filename another value."
                )
        plugins = _several(self.config_init.trainer.plugins)
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            # A logger may take each checkpoint from the disk as soon as it is said to be saved.
            plugins = [*plugins, DeferredCheckpointIO(0.0) if self.config.trainer.logger else DeferredCheckpointIO()]
        return super().instantiate_trainer(callbacks=[*callbacks, *given, TimeKeeper()], plugins=plugins, **kwargs)

    def _resolved_recipe(self, model: ImageClassifier) -> str:
        settings = yaml.safe_load(self.parser.dump(self.config, skip_unset=False))
        for key in ("recipe", "run", "final", "forecast", "find_lr", "verbose", "checkpoint_every"):
            settings.pop(key, None)
        data, model_settings = settings["data"], settings["model"]
        if data["root"] is not None:
            data["root"] = str(Path(data["root"]).resolve())
            data["source"] = None
        for name in ("exclude", "relabel", "predict_root"):
            if isinstance(data[name], str):
                data[name] = str(Path(data[name]).expanduser().resolve())
        weights = model_settings["weights"]
        model_settings["weights"] = [*map(_resolved, weights)] if isinstance(weights, list) else _resolved(weights)
        command = " ".join(["resnet-tl", *sys.argv[1:]])
        return resolved_text(settings, self.resolved | model.resolved, f"Resolved by {command}")

    def check(self) -> None:
        """Reads images and weights and refuses what does not go together, without a word about them."""
        log = logging.getLogger("resnet_tl")
        level = log.level
        log.setLevel(logging.WARNING)
        try:
            check_trainer(self.trainer, self.model)
            check_input(self.trainer, self.model, self.datamodule)
        except MisconfigurationException as error:
            raise UserError(plain(str(error))) from error
        finally:
            log.setLevel(level)

    def run(self) -> Run | None:
        """The run; None after a forecast, which it prints, and where other processes have done the work."""
        try:
            check_trainer(self.trainer, self.model)
            if starts_processes(self.trainer):
                if not self.resumed and not self.plan:  # for which the images were read
                    check_input(self.trainer, self.model, self.datamodule)
                launch(self.trainer.num_devices)
                return None
            if failures.LAUNCHER in os.environ and not self.resumed:  # which has said what there is to say
                logging.getLogger("resnet_tl.data").setLevel(logging.ERROR)
            if self.whole:
                self._print_fold()
            leave_signals(self.trainer)
            if self.forecast:
                train(self.model, self.datamodule, self.trainer)
                if self.trainer.is_global_zero:
                    print_forecast(self.forecast, self.config.optimizer is None)
                return None
            if self.rates:
                self.rates.run(self.model, self.datamodule, self.trainer)
                if self.trainer.is_global_zero:
                    show_rates(self.rates)
                return None
            last = self.resumed.last_checkpoint if self.resumed else None
            resume = last if last and last.is_file() else None
            return fit(self.model, self.datamodule, self.trainer, self.recorder, resume)
        except stopping.Stopped as stop:
            if stop.signal == signal.SIGUSR1 and not self.trainer.global_rank:
                requeue()
            raise stopping.Stopped(stop.signal, self.how_to_go_on(), stop.together) from None
        except (MisconfigurationException, ModuleNotFoundError) as error:  # the latter of what a callback needs
            raise UserError(plain(str(error))) from error
        except Exception as error:
            # What a logger's service says, such as that nobody is logged in.
            if type(error).__module__.split(".")[0] in ("wandb", "mlflow"):
                raise UserError(f"trainer.logger: {plain(str(error))}") from error
            if str(error).startswith("Early stopping conditioned on metric"):  # that a callback was to log
                raise UserError(f"trainer.callbacks: {plain(str(error))}") from error
            raise

    def _print_fold(self) -> None:
        """A heading for what follows; the images are described once."""
        fold, folds = self.datamodule.fold, self.datamodule.folds
        if self.trainer.is_global_zero:
            current().print(f"\nForecast of one of {folds} folds" if self.forecast else f"\nFold {fold} of {folds}")
        if fold != 1:
            logging.getLogger("resnet_tl.data").setLevel(logging.ERROR)

    def how_to_go_on(self) -> str:
        """What follows the sentence that says what has stopped the fit."""
        run = None if self.forecast or self.rates else self.whole.run if self.whole else self.recorder.run
        if run is None or not run.recipe_file.is_file():
            return " before the training began"
        return f"; go on with: resnet-tl fit --resume {quote(str(shortest(run.path)))}"


def _several(given: Any) -> list[Any]:
    return given if isinstance(given, list) else [given] if given else []


def _resolved(weights: str) -> str:
    """The whole path of a file or folder; other words for weights as they are."""
    return str(Path(weights).resolve()) if weights not in ("default", "none") and Path(weights).exists() else weights


def _defaults(given: Sequence[Given], head_solver: str) -> dict[str, Any]:
    """What the parser takes for settings that are not given: it follows from the mode, the phases and the solver."""
    schedule = last_given(given, "model.schedule")
    defaults = defaults_for(last_given(given, "model.mode", "all"), schedule)
    epochs = [phase.get("epochs") for phase in schedule or []]
    place, name = named(given, "optimizer")
    optimizer: dict[str, Any] = {"class_path": name}
    if class_at("optimizer", place, name) is AdamW:  # another one has its own defaults
        optimizer["init_args"] = {"lr": defaults.lr, "weight_decay": defaults.weight_decay}
    is_solved = head_solver == "lbfgs"
    most = PENALTIES if is_solved else defaults.epochs
    return {
        "trainer.max_epochs": sum(epochs) if epochs and None not in epochs else most,
        "model.head_solver": head_solver,
        "optimizer": None if is_solved else optimizer,
    }


class _Lines(logging.Handler):
    """Prints each message by itself, above what is live."""

    def emit(self, record: logging.LogRecord) -> None:
        current().print(record.getMessage())


def _quiet() -> None:
    """Only what a user can act on or has asked for: our own lines, warnings of others, reports of callbacks."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning_utilities"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.loggers.mlflow").setLevel(logging.ERROR)  # a new experiment is no warning
    level = logging.INFO if getattr(rank_zero_only, "rank", 0) == 0 else logging.ERROR
    for name in ("resnet_tl", "lightning.pytorch.callbacks", PROFILERS):
        log, lines = logging.getLogger(name), _Lines()
        if name == PROFILERS:  # those of the evaluations that follow the training tell the same again
            lines.addFilter(lambda record: record.getMessage().startswith("FIT "))
        log.setLevel(level)
        log.handlers = [lines]
        log.propagate = False
    silence_untrue_warnings()
    for message in (
        ".*srun.*",
        r"`?\.fit\(ckpt_path=",  # of OnExceptionCheckpoint, though the fit has its model and its own checkpoint
        ".*Checkpoint directory .* exists and is not empty.*",  # it is the run's own
    ):
        warnings.filterwarnings("ignore", message=message)
