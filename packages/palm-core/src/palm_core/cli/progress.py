"""Progress bar and graceful shutdown."""

from __future__ import annotations

import shlex
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from palm_core.cli import output
from palm_core.validation import one_line, percent_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from palm_core.run.engine import Progress


class Terminated(KeyboardInterrupt):
    """Termination requested by SIGTERM, as schedulers send before SIGKILL."""


@contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """Handle SIGTERM like Ctrl-C: finished calls are persisted, workers are terminated."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


#: Maximum length of a task's name in the display.
_NAME = 16


class ProgressDisplay:
    """Live display of a run's calls on an interactive terminal; a context manager.

    Args:
        task: name of the task.

    Attributes:
        last: the last progress received.
    """

    def __init__(self, task: str) -> None:
        self.last: Progress | None = None
        console = output.err()
        self._bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[calls]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[more]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        # Short, so that the columns after it fit into 80 characters.
        what = f"{one_line(task, _NAME)}: calls"
        self._task = self._bar.add_task(what, total=None, calls="", more="")

    def __enter__(self) -> ProgressDisplay:
        self._bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._bar.stop()

    def __call__(self, now: Progress) -> None:
        """Update the display."""
        if self.last is None and now.done:
            output.note(f"Resuming the run: {calls(now.done)} already finished.")
        self.last = now
        parts = [f"{now.running} running"] if now.running else []
        if now.failed:
            parts.append(f"{now.failed} failed")
        if now.certified is not None:
            parts.append(f"certified ε {percent_text(now.certified, up=True)}")
        self._bar.update(
            self._task,
            completed=now.done,
            total=now.total,
            calls=f"{now.done}" if now.total is None else f"{now.done}/{now.total}",
            more=" · ".join(parts),
        )


@contextmanager
def progress_bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on an interactive terminal; yields its update function."""
    console = output.err()
    with Bar(console=console, transient=True, disable=not console.is_terminal) as bar:
        shown = bar.add_task(what, total=total)
        yield lambda done: bar.update(shown, completed=done)


@contextmanager
def resumable(watch: ProgressDisplay, again: Sequence[str]) -> Iterator[None]:
    """Show the progress of a run; on interruption print what is saved and how to resume.

    Args:
        watch: the display.
        again: the command that resumes the run.
    """
    try:
        with stopped_by_sigterm(), watch:
            yield
    except KeyboardInterrupt:
        saved = calls(0 if watch.last is None else watch.last.done)
        output.note(f"Stopped; {saved} finished and saved. To resume: {shlex.join(again)}")
        raise


def calls(count: int) -> str:
    """Format a number of calls."""
    return "1 call" if count == 1 else f"{count} calls"
