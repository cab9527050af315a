"""A search for better settings within some minutes (optuna; extra `search`)."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from bothways.errors import InputError
from bothways.finetuning.config import FinetuningConfig
from bothways.finetuning.run import Finetuned, Training
from bothways.finetuning.seeds import goodness
from bothways.model.bert import Bert
from bothways.progress import clock, readable
from bothways.training.log import TrainingLog

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution

MARGIN = 1.1
"""A trial is begun if so many times what it is expected to take is left."""
MOST_TRIALS = 1000


class OutOfTime(Exception):
    """The search has no time left for the training that is under way."""


@dataclass(frozen=True)
class Search:
    """A strategy of `finetune`: the recipe's settings first, then those that optuna proposes, until time is over; the
    best classifier (`seeds.goodness`, on the rows to evaluate on) is kept.

    Settings that the user has given stay as they are. The metrics gain `"search"`, every trial with its settings. The
    best of many is a little better on the rows that chose it than on others. The first training is finished however
    long it takes.
    """

    minutes: float
    fixed: Collection[str] = ()
    """Settings that stay as they are though they are the usual ones."""

    def __post_init__(self) -> None:
        if not 0 < self.minutes < float("inf"):
            raise InputError(f"--search is {self.minutes}; give a number of minutes above 0.")

    def __call__(self, training: Training, config: FinetuningConfig) -> Finetuned:
        """Raises InputError if optuna is not installed, or if there are no rows to evaluate on."""
        study = new_study(config.seed)
        if not training.data.dev:
            raise InputError("--search needs rows to evaluate on: name a table with --dev, or hold rows out.")
        deadline = time.monotonic() + 60 * self.minutes
        best = training(config)
        trials = Trials(study, config, best, deadline, self.fixed)
        while (proposed := trials.propose()) is not None:
            done = trials.train(training, proposed)
            if done is not None and goodness(done) > goodness(best):
                best = done
        best.metrics["search"] = {"minutes": self.minutes, "trials": trials.entries}
        print(
            f"The best of {len(trials.entries)} trials is kept. These rows have chosen it, so its figures on them are "
            f"a little too good: evaluate it on others.",
            file=sys.stderr,
        )
        return best


class Trials:
    """The trainings of a search."""

    def __init__(
        self, study: Study, config: FinetuningConfig, first: Finetuned, deadline: float, fixed: Collection[str] = ()
    ) -> None:
        """`first`: what the recipe's settings gave, around which the search goes."""
        import optuna

        self.study, self.config, self.deadline = study, config, deadline
        settings = first.metrics["training"]["settings"]
        self.space = space_around(settings, config, fixed)
        self.epochs = settings["epochs"]
        self.seconds_per_epoch = first.log.seconds / self.epochs
        self.entries: list[dict[str, Any]] = []
        chosen = {name: settings[name] for name in self.space}
        study.add_trial(optuna.trial.create_trial(params=chosen, distributions=dict(self.space), value=goodness(first)))
        self.note(chosen, first)

    def propose(self) -> dict[str, Any] | None:
        """The settings to try next; None if time does not suffice, or nothing is left to vary."""
        left = (self.deadline - time.monotonic()) / MARGIN / self.seconds_per_epoch
        if not self.space or len(self.entries) >= MOST_TRIALS:
            return None
        for _ in range(10):  # such as would take too long are told to optuna, which proposes others
            trial = self.study.ask(dict(self.space))
            if trial.params.get("epochs", self.epochs) <= left:
                self.trial = trial
                return dict(trial.params)
            self.study.tell(trial, state=failed())
        return None

    def train(self, training: Training, settings: Mapping[str, Any]) -> Finetuned | None:
        """Train with the settings proposed; None if time was over before the end."""

        def stop_in_time(bert: Bert, log: TrainingLog) -> None:
            if time.monotonic() > self.deadline:
                raise OutOfTime

        try:
            done = training(replace(self.config, **settings), after_update=stop_in_time)
        except OutOfTime:
            self.study.tell(self.trial, state=failed())
            return None
        except InputError as error:  # as of a loss that is no number any more
            print(f"{error} This trial is left out.", file=sys.stderr)
            self.study.tell(self.trial, state=failed())
            return None
        self.study.tell(self.trial, goodness(done))
        self.note(settings, done)
        return done

    def note(self, settings: Mapping[str, Any], done: Finetuned) -> None:
        """Keep what a trial gave, and tell of it."""
        measured = {
            output: {metric: value for metric, value in figures.items() if isinstance(value, float)}
            for output, figures in done.metrics["outputs"].items()
        }
        seconds = round(done.log.seconds, 2)
        used = {name: done.metrics["training"]["settings"][name] for name in settings}  # after a collapse other ones
        self.entries.append({"settings": used, "goodness": goodness(done), "seconds": seconds, "outputs": measured})
        shown = ", ".join(f"{name} {readable(value)}" for name, value in settings.items())
        best = max(entry["goodness"] for entry in self.entries)
        left = clock(max(0.0, self.deadline - time.monotonic()))
        print(
            f"Trial {len(self.entries)}: {goodness(done):.4f} (best {best:.4f}) with {shown}; {left} left",
            file=sys.stderr,
        )


def new_study(seed: int) -> Study:
    """A study that proposes the same for the same seed. Raises InputError if optuna is not installed."""
    try:
        import optuna
    except ImportError:
        raise InputError("--search needs optuna; install it with: pip install 'bothways[search]'.") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=5))


def failed() -> Any:
    """How optuna calls a trial without a result."""
    import optuna

    return optuna.trial.TrialState.FAIL


def space_around(
    settings: Mapping[str, Any], config: FinetuningConfig, fixed: Collection[str] = ()
) -> dict[str, BaseDistribution]:
    """What is varied, and how far, around the recipe's `settings`: all but what is `fixed` or the user has set in
    `config`."""
    from optuna.distributions import FloatDistribution, IntDistribution

    rate, epochs, batch = settings["learning_rate"], settings["epochs"], settings["batch_size"]
    space: dict[str, BaseDistribution] = {
        "learning_rate": FloatDistribution(rate / 4, min(1.0, rate * 4), log=True),
        "epochs": IntDistribution(max(1, epochs // 2), epochs * 2),
        "batch_size": IntDistribution(max(1, batch // 2), batch * 2, log=True),
        "dropout": FloatDistribution(0.0, max(0.2, settings["dropout"])),
    }
    defaults = {known.name: known.default for known in fields(FinetuningConfig) if known.default is not MISSING}
    return {name: part for name, part in space.items() if name not in fixed and getattr(config, name) == defaults[name]}
