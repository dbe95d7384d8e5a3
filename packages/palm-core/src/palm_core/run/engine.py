"""The engine of runs: ask an oracle, persist each answer, build the portfolio."""

from __future__ import annotations

import logging
import signal
import threading
from collections import deque
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from palm_core.errors import InputError, OracleAnswerError, WorkError
from palm_core.guarantees.adaptive import AdaptiveGrid
from palm_core.model.files import oracle_versions
from palm_core.model.policy import add_policy
from palm_core.model.portfolio import PORTFOLIO_FILE
from palm_core.model.results import Missing, Stopped
from palm_core.oracles.protocol import Oracle, check_certifiable, check_oracle, claims
from palm_core.run.artifacts import ARTIFACTS
from palm_core.run.assembly import assemble
from palm_core.run.config import Adaptive, Execution, Grid, Settings, with_fingerprint
from palm_core.run.executors.protocol import Answered, Call, Failure, Given, Refused, Work
from palm_core.run.executors.workers import call_executor
from palm_core.run.ledger import Answer, Ledger
from palm_core.validation import check_count, check_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Executor

    from numpy.typing import ArrayLike, NDArray

    from palm_core.model.policy import Policy
    from palm_core.model.portfolio import Portfolio
    from palm_core.run.executors.protocol import CallExecutor, Event

#: Name of the folder for logs in a run's folder.
FOLDER = "logs"
FILE_NAME = "build.log"
LARGEST = 10 << 20
_logger = logging.getLogger("palm_core")
_logger.addHandler(logging.NullHandler())


class _File(RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's name
        """Ignore errors of writing the log (full disk), which the ledger reports too."""


@contextmanager
def logged(folder: Path | None) -> Iterator[Path | None]:
    """Write the log of palm_core into the run ``folder``; yields its folder for logs."""
    if folder is None:
        yield None
        return
    logs = folder / FOLDER
    logs.mkdir(exist_ok=True)
    handler = _File(logs / FILE_NAME, maxBytes=LARGEST, backupCount=1, delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = _logger.level
    _logger.addHandler(handler)
    _logger.setLevel(logging.INFO)
    try:
        yield logs
    finally:
        _logger.setLevel(level)
        _logger.removeHandler(handler)
        handler.close()


_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def shielded() -> Iterator[None]:
    """Defer SIGINT and SIGTERM during a critical section, where Python handles them."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals interrupt the main thread only
        return
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    caught: list[tuple[int, Any]] = []
    for number, handler in handlers.items():
        if callable(handler):
            signal.signal(number, lambda *call: caught.append(call))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if callable(handler):
                signal.signal(number, handler)
        for code, frame in caught[:1]:
            held = handlers[signal.Signals(code)]
            assert callable(held)
            held(code, frame)


_Asked = TypeVar("_Asked", Answer, Missing)
log = logging.getLogger(__name__)

#: Number of consecutive failed weights after which the run stops, lower while there are
#: few answers.
FAILURES_IN_A_ROW = (3, 10)
#: Losses of a worker with its machine that do not count as attempts.
MOST_LOST = 20
#: Maximum weights of a round: larger rounds use less information, smaller ones leave workers
#: idle. Round sizes depend on the answers alone, so a run is the same with any workers.
LARGEST_ROUND = 64


class Progress(NamedTuple):
    """The progress of a run.

    Attributes:
        done: number of calls finished.
        total: number of calls in all, as far as known.
        certified: ε certified so far, if any.
        running: number of weights in progress.
        failed: number of weights given up.
    """

    done: int
    total: int | None
    certified: float | None = None
    running: int = 0
    failed: int = 0


@dataclass(eq=False)
class _Item:
    """A weight vector (d,) in progress, with its attempts."""

    weights: NDArray[np.float64]
    failures: int = 0
    lost: int = 0
    alone: bool = False


class Collector:
    """Collector of answers: submits calls, records answers, retries failures.

    Args:
        executor: executor of the calls.
        ledger: storage of answers, with earlier ones, or ``None``.
        retries: number of retries of a weight vector after a failure.
        batch: weight vectors per call; ``None`` for all at once.
        progress: called with a :class:`Progress` after each answer.

    Attributes:
        answers: all so far, in order of arrival.
        rounds: the weights asked, (k, d) for each round.
        missing: the weights given up.
    """

    def __init__(
        self,
        executor: CallExecutor,
        *,
        ledger: Ledger | None = None,
        retries: int = 2,
        batch: int | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self.answers: list[Answer] = ledger.answers() if ledger else []
        self.rounds: list[NDArray[np.float64]] = ledger.rounds() if ledger else []
        self.missing: list[Missing] = []
        self._executor, self._ledger = executor, ledger
        self._retries, self._batch = retries, batch
        self._progress = progress
        self._total: int | None = None
        self._certified: float | None = None
        self._reported: Progress | None = None
        self._known = {answer.weights.tobytes(): answer for answer in self.answers}
        self._by_id: dict[str, Policy] = {}
        for answer in self.answers:
            add_policy(answer.policy, self._by_id)
        self._queue: deque[_Item] = deque()
        self._running: dict[int, deque[_Item]] = {}
        self._calls = 0
        self._in_a_row = 0

    def collect(self, weights: NDArray[np.float64]) -> None:
        """Ask at each row of ``weights`` (k, d) that has no answer yet.

        Raises:
            WorkError: the oracle fails at every weight; the answers that came before are
                kept. A weight that fails alone is given up instead.
        """
        self._total = len(weights)
        self._ask(weights)

    def collect_adaptively(self, grid: AdaptiveGrid, *, most: int | None) -> Stopped:
        """Ask at the weights that ``grid`` chooses, in rounds, until it stops.

        Rounds of an earlier session come first. The answers of a round are passed to the
        grid together and in order, so that the next round depends on the answers alone,
        not on timing.

        Returns:
            The stopping reason: "target", "slack" (the rest is the oracle's slack), "calls"
            (``most`` weights were asked), "negative" (the best is below 0 somewhere, so that no
            ε can be certified), or "failures" (the remaining weights were given up).

        Raises:
            WorkError: as :meth:`collect`.
        """
        asked = 0
        for weights in list(self.rounds):
            asked += len(weights)
            self._ask(weights)
            self._tell(grid, weights)
        while True:
            self._estimate(grid, most)
            if grid.stopped == "failures" and grid.certificate is None:
                raise self._stopped(
                    self.missing[-1].kind,
                    "the oracle failed at a vertex of the simplex, which a certificate "
                    f"requires; last: {self.missing[-1].message}",
                )
            if grid.stopped is not None:
                return grid.stopped
            room = round_size(asked, grid.d)
            if most is not None:
                room = min(room, most - asked)
            if room <= 0:
                return "calls"
            weights = grid.ask(room)
            asked += len(weights)
            self._ask(weights)
            self._tell(grid, weights)

    def _tell(self, grid: AdaptiveGrid, weights: NDArray[np.float64]) -> None:
        found = [self._known.get(row.tobytes()) for row in weights]
        answers = [answer for answer in found if answer is not None]
        if answers:
            grid.tell(
                np.array([answer.weights for answer in answers]),
                np.array([answer.policy.rewards for answer in answers]),
                np.array([answer.policy.regularizer for answer in answers]),
            )
        for row, answer in zip(weights, found, strict=True):
            if answer is None:
                grid.give_up(row)

    def _estimate(self, grid: AdaptiveGrid, most: int | None) -> None:
        if self._progress is None:
            return
        done, more = len(self.answers), grid.expected_calls
        self._total = most if more is None else done + more
        if self._total is not None and most is not None:
            self._total = min(self._total, most)
        found = grid.certificate
        self._certified = None if found is None else found.epsilon
        self._report()

    def _report(self) -> None:
        if self._progress is None:
            return
        running = sum(map(len, self._running.values()))
        done, failed = len(self.answers), len(self.missing)
        now = Progress(done, self._total, self._certified, running, failed)
        if now != self._reported:
            self._reported = now
            self._progress(now)

    def _ask(self, weights: NDArray[np.float64]) -> None:
        """Ask at the rows without an answer, until each is answered or given up."""
        requested = {row.tobytes() for rows in self.rounds for row in rows}
        fresh = [row for row in weights if row.tobytes() not in requested]
        if fresh:
            self.rounds.append(np.array(fresh))
            if self._ledger is not None:
                self._ledger.request(self.rounds[-1])
        self._queue.extend(_Item(row.copy()) for row in weights if row.tobytes() not in self._known)
        self._report()
        while self._queue or self._running:
            while self._queue and len(self._running) < self._executor.slots:
                self._submit()
            self._report()
            events = self._executor.events()
            with shielded():  # persist all answers that have arrived
                for event in events:
                    self._take(event)
        self._report()

    def _submit(self) -> None:
        items = deque([self._queue.popleft()])
        while self._queue and (self._batch is None or len(items) < self._batch):
            if items[0].alone or self._queue[0].alone:
                break
            items.append(self._queue.popleft())
        rows = np.array([item.weights for item in items])
        if self._ledger is not None:
            self._ledger.started(rows)
        self._running[self._calls] = items
        self._executor.submit(Call(self._calls, rows))
        self._calls += 1

    def _take(self, event: Event) -> None:
        items = self._running[event.call]
        if isinstance(event, Answered):
            item = items[0]
            try:
                add_policy(event.policy, self._by_id)
                answer = Answer(item.weights, event.policy, event.seconds, event.artifact)
                if self._ledger is not None:
                    self._ledger.record(
                        answer.weights, answer.policy, answer.seconds, answer.artifact
                    )
            except OracleAnswerError as error:
                items.popleft()
                self._fail(item, Failure("refused", str(error)))
                return
            items.popleft()
            self.answers.append(answer)
            self._known[answer.weights.tobytes()] = answer
            self._in_a_row = 0
            log.info("answered %s in %.3g s", answer.policy.id, answer.seconds)
        elif isinstance(event, Refused):
            self._fail(items.popleft(), event.failure)
        else:
            del self._running[event.call]
            if not items:
                return
            first = items.popleft()
            if items and self._ledger is not None:
                self._ledger.set_aside(np.array([item.weights for item in items]))
            for item in items:  # retry each alone, so that one weight cannot break the others' call
                item.alone = True
                self._queue.append(item)
            self._fail(first, event.failure or Failure("refused", "the call ended without it"))

    def _fail(self, item: _Item, failure: Failure) -> None:
        """Retry or give up a weight; stop the run where other weights would fail too."""
        if failure.kind == "lost":
            item.lost += 1
        if failure.kind != "lost" or item.lost > MOST_LOST:
            item.failures += 1
        item.alone = True
        final = item.failures > self._retries
        if self._ledger is not None:
            self._ledger.failed(item.weights, failure, final=final and not failure.hopeless)
        log.warning(
            "failed at %s (%s, attempt %d): %s",
            np.array2string(item.weights, precision=6),
            failure.kind,
            item.failures + item.lost,
            failure.message,
        )
        if failure.detail:
            log.info("%s", failure.detail)
        if failure.hopeless:
            raise self._stopped(failure.kind, f"the oracle failed: {failure.message}")
        if not final:
            self._queue.append(item)
            return
        self.missing.append(
            Missing(
                weights=item.weights,
                attempts=item.failures + item.lost,
                kind=failure.kind,
                message=failure.message,
            )
        )
        self._in_a_row += 1
        least, most = FAILURES_IN_A_ROW
        limit = min(most, max(least, len(self.answers)))
        nothing_left = not (self.answers or self._queue or any(self._running.values()))
        if self._in_a_row >= limit or nothing_left:
            at = f"{self._in_a_row} weights in a row" if self._in_a_row > 1 else "the only weight"
            raise self._stopped(failure.kind, f"the oracle failed at {at}; last: {failure.message}")

    def _stopped(self, failure: str, message: str) -> WorkError:
        n = len(self.answers)
        safe = f"; the {n} finished calls are saved" if self._ledger and n else ""
        kind = OracleAnswerError if failure == "refused" else WorkError
        return kind(message + safe)


def in_order(items: Sequence[_Asked], rounds: Sequence[NDArray[np.float64]]) -> list[_Asked]:
    """Sort answers, or weights without one, into the order of asking."""
    known = {item.weights.tobytes(): item for item in items}
    keys = (row.tobytes() for rows in rounds for row in rows)
    return [known[key] for key in keys if key in known]


def round_size(asked: int, d: int) -> int:
    """The size of the next round: the d vertices, then a quarter of the weights asked.

    Measured (benchmarks/certified_calls.py): such rounds need as many calls as single
    steps, in a fraction of the steps.
    """
    return d if asked < d else min(LARGEST_ROUND, max(2, asked // 4))


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
    """Ask ``oracle`` at given weights, each once.

    Args:
        oracle: see :class:`palm_core.Oracle`.
        weights: (k, d).
        run_dir: folder for the answers, persisted as they arrive; an interrupted run is
            resumed, and weights with an answer are not asked again.
        execution: how calls are made; ``None`` makes them in this process.
        task: the oracle's part of a resolved task; ``None`` describes the oracle.
        source: how a worker makes the oracle for itself; ``None`` sends it a copy.
        progress: called after each answer.

    Returns:
        One answer per row, in order; rows at which all attempts failed are left out.

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
    """A collector of answers with its ledger and the function that ends its workers early."""

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
    """Context of a collector: opens the ledger and starts the workers; closes both.

    Args:
        oracle: the oracle.
        objectives: its d objectives.
        folder: of the run, or ``None`` for a run in memory.
        task: the resolved task, with the oracle's fingerprint.
        extend: accept a run whose task differs only in how weights are chosen.
        execution: how calls are made; ``None`` makes them in this process.
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
            versions=oracle_versions(),
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
    """Weights per call: from the settings, the oracle's ``batch``, or 1; in this process all."""
    if alone:
        return 1
    if execution.batch is not None:
        return execution.batch
    liked = getattr(oracle, "batch", None)
    if liked is not None:
        return check_count(liked, name="oracle.batch", least=1)
    return None if execution.executor == "here" else 1


#: Maximum number of calls.
MOST_CALLS = 1_000_000


def build_portfolio(
    oracle: Oracle,
    *,
    mu: float | None = None,
    alpha: float | None = None,
    target_epsilon: float | None = None,
    max_calls: int | None = None,
    epsilon: float | None = None,
    delta: float | None = None,
    prune_mu: float | None = None,
    prune_alpha: float | None = None,
    method: str | None = None,
    solver: str | None = None,
    time_limit: float = 60.0,
    normalize: str = "none",
    run_dir: str | Path | None = None,
    extend: bool = False,
    execution: Execution | None = None,
    executor: Executor | None = None,
    task: Mapping[str, Any] | None = None,
    source: Callable[[], Oracle] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Portfolio:
    """Build a portfolio: ask ``oracle`` for policies and prune them (paper, Algorithm 1).

    On a grid (``mu``, ``alpha``) the oracle is asked at each of its weights. With
    ``target_epsilon`` it is asked where the certified gap is largest, until the
    portfolio is certified to be that near to the best there is, at every weight.

    Args:
        oracle: see :class:`palm_core.Oracle`.
        mu: the grid's multiplicative step μ in (0, 1].
        alpha: the grid's additive threshold α in (0, 1].
        target_epsilon: the gap to certify in (0, 1]; half of it is for the calls and
            the rest for pruning, unless ``epsilon`` sets the share of pruning. Where
            that is not smaller, the target is for the calls.
        max_calls: stop after that many calls; the certificate is then wider.
        epsilon: ε in [0, 1] to the best of all policies found, at every weight, for
            "minimal"; ``None`` takes 0.05 on a grid, else what the calls leave of the target.
        delta: δ ≥ 0 besides, in units of (normalised) reward.
        prune_mu: μ' in [0, 1] at the weights asked, for "greedy" and "exact"; ``None`` takes μ.
        prune_alpha: α' ≥ 0 besides, in units of (normalised) reward.
        method: "greedy" or "exact" cover the weights asked (:func:`palm_core.prune`),
            "minimal" all weights (:func:`palm_core.minimal_portfolio`). ``None`` takes
            "greedy" on a grid, as Algorithm 1 does, and "minimal" otherwise or with
            ``epsilon`` or ``delta``.
        solver: "cbc" or "highs" for the integer program; ``None`` chooses.
        time_limit: seconds for the whole search of the portfolio.
        normalize: "none", or "minmax" over the policies of the run as in the
            paper's experiments; weights then mean normalised rewards. Grid only.
        run_dir: folder of the run. Answers are persisted there as they arrive, an
            interrupted run is resumed, and the portfolio is saved as
            ``portfolio.json``. ``None`` for a run in memory.
        extend: resume a run whose task differs only in how weights are chosen and
            how the portfolio is pruned; all its answers are used.
        execution: how calls are made: worker processes, Ray, time limits, retries.
            ``None`` makes them in this process, as one call, with up to three attempts.
        executor: a ``concurrent.futures.Executor`` that makes the calls instead, one
            weight each.
        task: the task this run belongs to, as plain values; ``None`` describes
            the oracle and the settings.
        source: how a worker makes the oracle for itself, a function that can be pickled;
            ``None`` sends it a copy of ``oracle``.
        progress: called with a :class:`palm_core.run.engine.Progress` after each answer.

    Returns:
        The portfolio, with exact gaps against all evaluated policies, a certificate
        against all there are, the measured oracle slack and, on a grid, Theorem 3.4.
        Weights at which all attempts failed are in ``missing``.

    Raises:
        InputError: a setting or the oracle is not acceptable, the grid is too
            large, or ``run_dir`` belongs to another task or is worked on.
        WorkError: the oracle fails at every weight, or the disk is full. With
            ``run_dir`` the finished calls are kept.
    """
    if max_calls is not None and target_epsilon is None:
        raise InputError(f"max_calls = {max_calls}: requires target_epsilon")
    everywhere = target_epsilon is not None or (epsilon, delta) != (None, None)
    tables: dict[str, dict[str, Any]] = {
        "grid": {"mu": mu, "alpha": alpha},
        "adaptive": {"target_epsilon": target_epsilon, "max_calls": max_calls},
        "prune": {
            "epsilon": epsilon,
            "delta": delta,
            "mu": prune_mu,
            "alpha": prune_alpha,
            "method": method or ("minimal" if everywhere else "greedy"),
            "solver": solver,
            "time_limit": time_limit,
            "normalize": normalize,
        },
    }
    if target_epsilon is None:
        del tables["adaptive"]
    elif (mu, alpha) == (None, None):
        del tables["grid"]
    return build(
        oracle,
        Settings.read(tables, name=_argument),
        run_dir=run_dir,
        extend=extend,
        execution=execution,
        executor=executor,
        task=task,
        source=source,
        progress=progress,
    )


def build(
    oracle: Oracle,
    settings: Settings,
    *,
    run_dir: str | Path | None = None,
    extend: bool = False,
    execution: Execution | None = None,
    executor: Executor | None = None,
    task: Mapping[str, Any] | None = None,
    source: Callable[[], Oracle] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Portfolio:
    """:func:`build_portfolio` with the settings of a task."""
    objectives = check_oracle(oracle)
    grid = settings.asked if isinstance(settings.asked, Grid) else None
    max_calls = settings.asked.max_calls if isinstance(settings.asked, Adaptive) else None
    if max_calls is not None and max_calls < len(objectives):
        raise InputError(
            f"max_calls = {max_calls}: must be at least {len(objectives)}, one per objective"
        )
    claimed = claims(oracle)
    if grid is None:
        check_certifiable(claimed)
    weights = None if grid is None else grid_of(grid, len(objectives))
    plain = with_fingerprint(_identity(oracle, settings) if task is None else task, oracle)
    folder = None if run_dir is None else Path(run_dir)
    with collecting(
        oracle,
        objectives,
        folder=folder,
        task=plain,
        extend=extend,
        execution=execution,
        executor=executor,
        source=source,
        progress=progress,
    ) as (collector, ledger, end_workers):
        stopped = None
        if weights is not None:
            collector.collect(weights)
        else:
            chosen = AdaptiveGrid(
                len(objectives),
                target_epsilon=settings.call_target,
                **claimed.accuracy(),
            )
            stopped = collector.collect_adaptively(chosen, most=max_calls)
        end_workers()
        portfolio = assemble(
            in_order(collector.answers, collector.rounds),
            objectives,
            settings,
            claimed=claimed,
            task=plain,
            stopped=stopped,
            missing=in_order(collector.missing, collector.rounds),
        )
        if ledger is not None:
            portfolio.save(ledger.file.with_name(PORTFOLIO_FILE))
            ledger.finish()
    return portfolio


def grid_of(grid: Grid, n_objectives: int) -> NDArray[np.float64]:
    """Build the grid of a run, up to a size limit.

    Raises:
        InputError: more than a million weights; nothing is allocated.
    """
    from palm_core.weights.grid import construct_grid, grid_size, spaced

    size = grid_size(n_objectives, grid.mu, grid.alpha)
    if size > MOST_CALLS:
        raise InputError(
            f"the grid has {spaced(size)} weights, must have at most {spaced(MOST_CALLS)}; raise "
            "mu or alpha, or use an adaptive grid (target_epsilon)"
        )
    return construct_grid(n_objectives, grid.mu, grid.alpha)


def _argument(table: str, key: str) -> str:
    """The argument of :func:`build_portfolio` for an entry of a task."""
    return f"prune_{key}" if table == "prune" and key in ("mu", "alpha") else key


def _identity(oracle: Oracle, settings: Settings) -> dict[str, Any]:
    kind = type(oracle)
    return {"oracle": {"name": f"{kind.__module__}:{kind.__qualname__}"}, **settings.tables()}
