"""Oracle calls with all that a run has around them: a ledger, workers, logs, retries.

:func:`palm_core.build_portfolio` asks at the weights that Algorithm 1 or a certificate
chooses; :func:`answers_at` at any.
"""

from __future__ import annotations

from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from palm_core.artifacts import FOLDER as ARTIFACTS
from palm_core.calls.executors import call_executor
from palm_core.calls.protocol import Given, Work
from palm_core.collecting import Collector, in_order
from palm_core.execution import Execution
from palm_core.identity import with_fingerprint
from palm_core.ledger import Answer, Ledger
from palm_core.logs import logged
from palm_core.oracle import Oracle, check_oracle, claims
from palm_core.provenance import ORACLE_PACKAGES, versions
from palm_core.simplex import check_count, check_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from concurrent.futures import Executor

    from numpy.typing import ArrayLike

    from palm_core.collecting import Progress


def answers_at(
    oracle: Oracle,
    weights: ArrayLike,
    *,
    run_dir: str | Path | None = None,
    execution: Execution | None = None,
    task: Mapping[str, Any] | None = None,
    source: Callable[[], Oracle] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> list[Answer]:
    """Ask ``oracle`` at weights of one's own, each once.

    Args:
        oracle: see :class:`palm_core.Oracle`.
        weights: (k, d).
        run_dir: keeps the answers as they arrive; one that was stopped goes on, and what
            was asked there before, for whatever reason, is not asked again.
        execution: how calls are made; ``None`` makes them here.
        task: the oracle's part of a resolved task; ``None`` describes the oracle.
        source: how a worker makes the oracle for itself; ``None`` sends it a copy.
        progress: called after each answer.

    Returns:
        One answer per row, in order; rows that the oracle failed at, again and again, have
        none.

    Raises:
        InputError: weights off the simplex; ``run_dir`` belongs to another oracle or is
            worked on.
        WorkError: the oracle fails at every weight, or the disk is full.
    """
    objectives = check_oracle(oracle)
    rows = check_weights(weights, len(objectives))
    kind = type(oracle)
    plain = {"oracle": {"name": f"{kind.__module__}:{kind.__qualname__}"}} if task is None else task
    with collecting(
        oracle,
        objectives,
        folder=None if run_dir is None else Path(run_dir),
        task=with_fingerprint(plain, oracle),
        extend=True,
        execution=execution,
        source=source,
        progress=progress,
    ) as asking:
        asking.collector.collect(rows)
        if asking.ledger is not None:
            asking.ledger.finish()
        return in_order(asking.collector.answers, [rows])


class Asking(NamedTuple):
    """A collector of answers, where it keeps them, and what ends its workers early."""

    collector: Collector
    ledger: Ledger | None
    end_workers: Callable[[], None]


@contextmanager
def collecting(
    oracle: Oracle,
    objectives: tuple[str, ...],
    *,
    folder: Path | None,
    task: Mapping[str, Any],
    extend: bool,
    execution: Execution | None = None,
    executor: Executor | None = None,
    source: Callable[[], Oracle] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Iterator[Asking]:
    """A collector of answers; its ledger is open and its workers live to the block's end.

    Args:
        oracle: who is asked.
        objectives: its d objectives.
        folder: of the run, or ``None`` to keep all in memory.
        task: as it was resolved, with the oracle's fingerprint.
        extend: accept a run whose task differs only in how weights are chosen.
        execution: how calls are made; ``None`` makes them here.
        executor: makes the calls instead, one weight each.
        source: how a worker makes the oracle for itself.
        progress: called after each answer.

    Raises:
        InputError: the folder belongs to another task or is worked on.
    """
    how = execution or Execution(executor="here")
    opened = (
        nullcontext()
        if folder is None
        else Ledger.begin(
            folder,
            task,
            objectives,
            claims(oracle),
            extend=extend,
            versions=versions(*ORACLE_PACKAGES),
            execution=asdict(how),
        )
    )
    with opened as ledger, logged(folder) as logs:
        made = Given(oracle) if source is None or how.executor == "here" else source
        work = Work(made, objectives, folder and folder.absolute() / ARTIFACTS)
        caller = call_executor(work, how, executor, logs)
        with closing(caller):
            collector = Collector(
                caller,
                ledger=ledger,
                retries=how.retries,
                batch=_batch(oracle, how, alone=executor is not None),
                progress=progress,
            )
            yield Asking(collector, ledger, caller.close)


def _batch(oracle: Oracle, execution: Execution, *, alone: bool) -> int | None:
    """Weights per call: as set, as the oracle likes, or one; here all at once."""
    if alone:
        return 1
    if execution.batch is not None:
        return execution.batch
    liked = getattr(oracle, "batch", None)
    if liked is not None:
        return check_count(liked, name="oracle.batch", least=1)
    return None if execution.executor == "here" else 1
