"""Checkpoints: all that a run needs to go on as if it had never stopped.

    checkpoints/
      update-00001000/
        state.safetensors   weights, moments of the optimizers, losses not yet logged
        state.json          the update, what was measured, the settings
        SHA256SUMS          the digests of both, as `sha256sum --check` reads them

Order, masking and dropout are pure functions of the seed and the update, so there is no random state to keep. A
checkpoint appears whole or not at all; the last few are kept, and one that does not match its digests is passed over.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from bothways.errors import InputError
from bothways.files.reading import add_file
from bothways.files.writing import new_directory
from bothways.model.text_model import TextModel
from bothways.training.distributed import Ranks, distribute_like, full_tensor
from bothways.training.log import RecentLosses, TrainingLog
from bothways.training.optimization import Muon

MOMENTS: dict[type[torch.optim.Optimizer], tuple[str, ...]] = {
    torch.optim.AdamW: ("exp_avg", "exp_avg_sq"),
    Muon: ("momentum_buffer",),
}
"""What each optimizer remembers of a parameter; AdamW also counts the updates."""


@dataclass(frozen=True)
class State:
    """A checkpoint, read and verified."""

    update: int
    """Updates done."""
    tensors: Mapping[str, Tensor]
    """`weights.NAME`, `MOMENT.NAME` for each of the `MOMENTS` of its optimizer, and `recent.OUTPUT`."""
    measured: Mapping[str, Any]
    """What the training log held."""
    digests: str
    """What tells it from every other."""

    def restore(self, bert: TextModel, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Put weights and moments back where they were."""
        optimizer_of = owners(optimizers)
        with torch.no_grad():
            for name, parameter in bert.named_parameters():
                parameter.copy_(distribute_like(parameter, self.tensors[f"weights.{name}"]))
                optimizer = optimizer_of[parameter]
                for moment in MOMENTS[type(optimizer)]:
                    optimizer.state[parameter][moment] = distribute_like(parameter, self.tensors[f"{moment}.{name}"])
                if isinstance(optimizer, torch.optim.AdamW):
                    step = torch.tensor(float(self.update), device=parameter.device)
                    optimizer.state[parameter]["step"] = step

    @property
    def recent(self) -> dict[str, Tensor]:
        """Losses summed since the last entry of the log, by output."""
        return {n.removeprefix("recent."): t for n, t in self.tensors.items() if n.startswith("recent.")}


class Checkpoints:
    """The checkpoints of one run, in one directory."""

    def __init__(
        self, directory: Path, settings: Mapping[str, Any], *, every_seconds: float = 600, keep: int = 3
    ) -> None:
        """`settings`: what decides the numbers of the run; a checkpoint of other settings is refused."""
        self.directory, self.every_seconds, self.keep = directory, every_seconds, keep
        self.settings = json.loads(json.dumps(settings))
        self._saved_at = time.monotonic()
        self._damaged: set[Path] = set()
        self._begun = False
        for left_over in directory.glob(".update-*"):  # of a run that was killed while it wrote
            shutil.rmtree(left_over, ignore_errors=True)

    @property
    def due(self) -> bool:
        """Whether enough time has gone by since the last one."""
        return time.monotonic() - self._saved_at >= self.every_seconds

    def paths(self) -> list[Path]:
        """The directories of all checkpoints, oldest first."""
        return sorted(p for p in self.directory.glob("update-*") if re.fullmatch(r"update-\d+", p.name))

    def restore(
        self,
        bert: TextModel,
        optimizers: Sequence[torch.optim.Optimizer],
        log: TrainingLog,
        recent: RecentLosses,
        ranks: Ranks,
    ) -> None:
        """Go on from the newest checkpoint, if there is one; InputError unless all ranks see the same."""
        state = self.latest()
        ranks.require_same(
            "none" if state is None else f"{state.update} {state.digests}",
            f"newest checkpoint in {self.directory}",
            "share the directory, or copy it to every machine",
        )
        if state is not None:
            state.restore(bert, optimizers)
            log.restore(state.measured)
            recent.restore(state.recent, state.measured["recent_counts"])

    def save(
        self,
        bert: TextModel,
        optimizers: Sequence[torch.optim.Optimizer],
        log: TrainingLog,
        recent: RecentLosses,
        write: bool = True,
    ) -> Path:
        """Write a checkpoint of all that a run needs. InputError if the disk is full; those before stay whole.

        Every rank calls this, since shards have to be gathered; the one that is to `write` does.
        """
        tensors = {f"recent.{name}": loss.detach().cpu() for name, loss in recent.sums.items()}
        optimizer_of = owners(optimizers)
        for name, parameter in bert.named_parameters():
            optimizer = optimizer_of[parameter]
            moments = {moment: optimizer.state[parameter][moment] for moment in MOMENTS[type(optimizer)]}
            parts = {"weights": parameter.detach(), **moments}
            for part, tensor in parts.items():
                gathered = full_tensor(tensor)
                if write:
                    tensors[f"{part}.{name}"] = gathered.cpu()
        self._saved_at = time.monotonic()
        goal = self.directory / f"update-{log.updates:08}"
        if not write:
            return goal
        if self._begun and not self.directory.is_dir():  # made anew, it would hide those that were in it
            raise InputError(f"{self.directory} is gone; put it back and go on with --resume, or start anew.")
        with new_directory(goal, overwrite=True) as scratch:
            save_file(tensors, scratch / "state.safetensors")
            measured = {**asdict(log), "recent_counts": recent.counts}
            content = {"update": log.updates, "settings": self.settings, "measured": measured}
            (scratch / "state.json").write_text(json.dumps(content), "utf-8")
            (scratch / "SHA256SUMS").write_text(digests(scratch), "utf-8")
        self._begun = True
        self._damaged.discard(goal)
        whole_ones = [path for path in self.paths() if path not in self._damaged]
        for old in (*self._damaged, *whole_ones[: -self.keep]):
            shutil.rmtree(old, ignore_errors=True)
        self._damaged.clear()
        return goal

    def latest(self) -> State | None:
        """The newest whole checkpoint; a damaged one is named on standard error and the one before it taken.

        Raises InputError if it belongs to a run with other settings, or if all are damaged.
        """
        paths = self.paths()
        self._begun = bool(paths)
        for path in reversed(paths):
            try:
                return self._read(path)
            except (OSError, ValueError, KeyError, SafetensorError) as error:
                if isinstance(error, InputError):
                    raise
                print(f"{path}: this checkpoint is damaged ({error}) and passed over.", file=sys.stderr)
                self._damaged.add(path)
        if paths:
            raise InputError(f"{self.directory}: every checkpoint is damaged; start anew with --overwrite.")
        return None

    def _read(self, path: Path) -> State:
        if (found := digests(path)) != (path / "SHA256SUMS").read_text("utf-8"):
            raise ValueError("its digests do not match")
        content = json.loads((path / "state.json").read_text("utf-8"))
        for name in sorted({*self.settings, *content["settings"]}):
            now, then = self.settings.get(name), content["settings"].get(name)
            if now != then:
                raise InputError(
                    f"{path}: this run was started with {name} {then!r}, not {now!r}; go on with the same settings "
                    f"or start anew with --overwrite."
                )
        return State(content["update"], load_file(path / "state.safetensors"), content["measured"], found)


def owners(optimizers: Sequence[torch.optim.Optimizer]) -> dict[Tensor, torch.optim.Optimizer]:
    """Which optimizer moves which parameter."""
    return {p: optimizer for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}


def digests(checkpoint: Path) -> str:
    """The SHA-256 of each file of a checkpoint, as the program sha256sum writes them."""
    lines = ""
    for name in ("state.safetensors", "state.json"):
        total = hashlib.sha256()
        add_file(total, checkpoint / name)
        lines += f"{total.hexdigest()}  {name}\n"
    return lines


@contextmanager
def asked_to_stop(heed: bool) -> Iterator[threading.Event]:
    """Within the block SIGTERM sets the event given out instead of ending the process, if `heed`."""
    event = threading.Event()
    if not heed or threading.current_thread() is not threading.main_thread():  # no other thread may handle signals
        yield event
        return

    def note(number: int, frame: FrameType | None) -> None:
        event.set()

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, before)
