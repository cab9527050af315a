"""How far long work has come, on standard error: a bar where a person looks, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar


class Progress:
    """Counts from 0 to `total` of some unit and says what has been measured on the way."""

    def __init__(
        self,
        name: str,
        total: int,
        *,
        unit: str = "",
        begun: int = 0,
        every_seconds: float = 10.0,
        quiet: bool = False,
    ) -> None:
        """`unit`: what is counted, if it must be said; bytes are shown as kB, MB, …; `begun`: how far earlier work
        had come."""
        self.name, self.total, self.begun, self.every_seconds, self.quiet = name, total, begun, every_seconds, quiet
        self.counted = size if unit == "bytes" else str
        self.started = self._said = time.monotonic()
        self._last = ""
        self._bar: Bar | None = None

    def __enter__(self) -> Progress:
        if not self.quiet and sys.stderr.isatty():
            self._bar = Bar(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[measured]}", markup=False),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._bar.start()
            self._bar.add_task(self.name, total=self.total, completed=self.begun, measured="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._last and not self.quiet:
            print(self._last, file=sys.stderr, flush=True)

    def update(self, done: int, **measured: float) -> None:
        """Say that `done` of `total` are done, with figures such as loss=0.31."""
        shown = "  ".join(f"{key.replace('_', ' ')} {readable(value)}" for key, value in measured.items())
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, measured=shown)
            return
        now = time.monotonic()
        far, left = self.counted(done), ""
        if self.total:
            far += f"/{self.counted(self.total)}"
            if done > self.begun:  # else there is nothing yet to judge by
                rest = (now - self.started) / (done - self.begun) * (self.total - done)
                left = f"{clock(max(0.0, rest))} left"
        self._last = "  ".join(filter(None, (self.name, far, shown, left)))
        if not self.quiet and now - self._said >= self.every_seconds:
            print(self._last, file=sys.stderr, flush=True)
            self._said, self._last = now, ""


def readable(value: float) -> str:
    """A figure in few characters: 0.3127, 12.5, 18,240."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def size(count: int) -> str:
    """Bytes in few characters: 831 B, 12.4 MB."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def clock(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
