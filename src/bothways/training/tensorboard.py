"""Watching a run: TensorBoard files while it goes on, and a picture of its curves.

Both come from the extra `watch`; without it a run is told so once and goes on.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
import time
from contextlib import suppress
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bothways.errors import InputError
from bothways.files.writing import write_atomically

if TYPE_CHECKING:
    from bothways.training.log import TrainingLog


DRAW_EVERY = 30.0
"""Seconds between pictures of a run that goes on: one takes half a second."""
SPARE = 1 << 20
"""Bytes that a disk has to have left for curves to be written."""


class TensorBoardLog:
    """Writes what a `TrainingLog` has measured to a directory: `tensorboard/` and `curves.svg`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._told = self._drawn = self._begun = -1
        self._drawn_at = -DRAW_EVERY
        self._able = all(find_spec(package) for package in ("matplotlib", "tensorboard"))
        if not self._able:
            print("No curves are drawn; pip install 'bothways[watch]' brings them and TensorBoard.", file=sys.stderr)

    @cached_property
    def _writer(self) -> Any:
        """Opened when there is something to write, so that a run that is refused leaves nothing behind."""
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self.directory / "tensorboard"), purge_step=self._begun + 1)

    def begin(self, update: int) -> None:
        """`update`: updates done before; what TensorBoard shows beyond them is of a run that was killed. Only the first
        call counts."""
        if self._begun < 0:
            self._told = self._drawn = self._begun = update

    def update(self, log: TrainingLog) -> None:
        """Tell TensorBoard what is new in the log. A full disk is told once, and ends the curves but not the run."""
        if not self._able:
            return
        try:
            self._tell(log)
        except (OSError, InputError) as error:
            self._able = False
            print(f"{self.directory}: no more curves are drawn ({error}).", file=sys.stderr)

    def _tell(self, log: TrainingLog) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(self.directory).free < SPARE:  # TensorBoard's own thread would print a traceback
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        for name, losses in log.losses.items():
            for update, loss in reversed(losses):
                if update <= self._told:
                    break
                self._writer.add_scalar(f"training/{name} loss", loss, update)
        for name, evaluated in log.held_out.items():
            for update, loss, accuracy in reversed(evaluated):
                if update <= self._told:
                    break
                self._writer.add_scalar(f"held out/{name} loss", loss, update)
                self._writer.add_scalar(f"held out/{name} accuracy", accuracy, update)
        if log.updates > self._told:
            self._writer.add_scalar("speed/tokens a second", log.tokens_per_second, log.updates)
            self._writer.add_scalar("speed/share of peak", log.share_of_peak, log.updates)
            last = max((entries[-1][0] for entries in log.held_out.values()), default=-1)
            if last > self._drawn and time.monotonic() - self._drawn_at >= DRAW_EVERY:
                write_atomically(self.directory / "curves.svg", curves(log))
                self._drawn, self._drawn_at = last, time.monotonic()
        self._told = log.updates

    def close(self, log: TrainingLog) -> dict[str, str]:
        """The files to keep of a finished run, by name: the picture of its curves."""
        self.update(log)
        if not self._able:
            return {}
        with suppress(OSError):  # that of a full disk has been told
            self._writer.close()
        return {"curves.svg": curves(log)}


def curves(log: TrainingLog) -> str:
    """The losses, and the accuracy on held-out text, of each output layer over the tokens read, as SVG."""
    import io

    from matplotlib.figure import Figure

    tokens = log.tokens / max(1, log.updates) / 1e6
    figure = Figure(figsize=(10, 3.6 * max(1, len(log.losses))), layout="constrained")
    axes = figure.subplots(max(1, len(log.losses)), 2, squeeze=False)
    for (left, right), (name, losses) in zip(axes, log.losses.items(), strict=False):
        left.plot([u * tokens for u, _ in losses], [loss for _, loss in losses], lw=1, label="training")
        evaluated = log.held_out.get(name, [])
        left.plot(
            [u * tokens for u, _, _ in evaluated], [loss for _, loss, _ in evaluated], "o-", ms=3, label="held out"
        )
        right.plot([u * tokens for u, _, _ in evaluated], [a for _, _, a in evaluated], "o-", ms=3, color="C1")
        left.set(title=f"{name}: loss", xlabel="million tokens")
        right.set(title=f"{name}: accuracy on held-out text", xlabel="million tokens")
        left.legend()
        for axis in (left, right):
            axis.grid(alpha=0.3)
            axis.spines[["top", "right"]].set_visible(False)
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()
