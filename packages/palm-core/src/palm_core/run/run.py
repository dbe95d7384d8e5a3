"""Finished runs and status of runs: answers, portfolio, size curve, progress."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from palm_core import __version__
from palm_core.cover.minimal import SizeGap, size_gap_curve
from palm_core.errors import InputError, PalmError
from palm_core.guarantees.adaptive import AdaptiveGrid
from palm_core.model.files import is_folder, not_a_folder, read_bounded, write_atomically
from palm_core.model.portfolio import PORTFOLIO_FILE, Portfolio
from palm_core.oracles.registry import load_analysis
from palm_core.run.artifacts import ARTIFACTS, verify_artifact
from palm_core.run.assembly import assemble, evaluate_answers
from palm_core.run.config import Grid, Settings
from palm_core.run.engine import grid_of, in_order
from palm_core.run.ledger import FILE_NAME, Answer, Ledger
from palm_core.run.ledger.lock import is_worked_on

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from palm_core.model.policy import Policy
    from palm_core.model.results import Missing, Stopped
    from palm_core.oracles.protocol import Claims
    from palm_core.run.assembly import EvaluatedAnswers
    from palm_core.run.ledger import Counts, Session

T = TypeVar("T")
#: Name of the folder for cached results in a run's folder.
RESULTS = "results"
_LARGEST_RESULT = 1 << 26


@dataclass(frozen=True, kw_only=True)
class Run:
    """The answers and settings of a run.

    Args:
        answers: one per weight asked, in the order of asking.
        objectives: d names.
        settings: settings of the run.
        claims: claims of the oracle.
        task: the resolved task.
        missing: the weights that the oracle failed at.
        folder: folder of the portfolio and cached results; ``None`` for neither.
    """

    answers: tuple[Answer, ...]
    objectives: tuple[str, ...]
    settings: Settings
    claims: Claims
    task: dict[str, Any]
    missing: tuple[Missing, ...] = ()
    folder: Path | None = None

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """Read a finished run.

        Args:
            folder: as given to :func:`palm_core.build_portfolio`.

        Raises:
            InputError: no run there, a damaged one, or one whose oracle calls
                are not all done.
        """
        with Ledger.read(Path(folder)) as ledger:
            task, objectives, claimed = ledger.task, ledger.objectives, ledger.claims
            rounds, missing = ledger.rounds(), ledger.missing()
            answers = in_order(ledger.answers(), rounds)
        try:
            settings = Settings.from_tables(task)
        except InputError as error:
            raise InputError(f"{folder}: {error}") from error
        on_grid = isinstance(settings.asked, Grid)
        if isinstance(settings.asked, Grid):
            wanted = grid_of(settings.asked, len(objectives))
        else:  # an adaptive run may stop anywhere, once all vertices are answered
            wanted = np.eye(len(objectives))
        known = {answer.weights.tobytes() for answer in answers}
        known |= {item.weights.tobytes() for item in missing}
        left = sum(row.tobytes() not in known for row in wanted)
        if left or not answers:
            what = "oracle calls" if on_grid else "vertices of the simplex"
            raise InputError(
                f"{folder}: {len(wanted) - left} of {len(wanted)} {what} are done; "
                f"finish the run first: palm build TASK --out {folder}"
            )
        return cls(
            answers=tuple(answers),
            objectives=objectives,
            settings=settings,
            claims=claimed,
            task=task,
            missing=tuple(missing),
            folder=Path(folder),
        )

    @cached_property
    def evaluated(self) -> EvaluatedAnswers:
        """The distinct policies and the weights that they are answers for, as arrays."""
        return evaluate_answers(self.answers, self.objectives, self.settings)

    @property
    def policies(self) -> tuple[Policy, ...]:
        """The distinct policies, in the order of the answers."""
        return self.evaluated.policies

    @cached_property
    def portfolio(self) -> Portfolio:
        """The portfolio of the run; its policies have per-prompt rewards.

        Read from ``portfolio.json``; where that is missing or belongs to other answers,
        computed from the run's settings.

        Raises:
            InputError: a ``portfolio.json`` that is damaged.
            WorkError: a solver failed.
        """
        found = self._stored_portfolio
        if found is None:
            return self.prune(self.settings)
        by_id = {policy.id: policy for policy in self.policies}
        return replace(found, policies=tuple(by_id[policy.id] for policy in found.policies))

    @property
    def stopped(self) -> Stopped | None:
        """The stopping reason of an adaptive run, from its ``portfolio.json``."""
        stored = self._stored_portfolio
        return stored.certificate.stopped if stored and stored.certificate else None

    @cached_property
    def _stored_portfolio(self) -> Portfolio | None:
        file = None if self.folder is None else self.folder / PORTFOLIO_FILE
        if file is None or not file.is_file():
            return None
        found = Portfolio.load(file)
        try:
            settings = Settings.from_tables(found.task or {})
        except InputError:  # settings of another version: choose the portfolio again
            return None
        same = (
            settings == self.settings
            and found.oracle_calls == len(self.answers)
            and found.candidates == len(self.policies)
            and {policy.id for policy in found.policies} <= {policy.id for policy in self.policies}
        )
        return found if same else None

    def prune(self, settings: Settings) -> Portfolio:
        """Choose a portfolio with other pruning settings on the same grid.

        The stopping reason of an adaptive run is unchanged.

        Raises:
            WorkError: a solver failed.
        """
        task = {**self.task, **settings.tables()}
        return assemble(
            self.answers,
            self.objectives,
            settings,
            claimed=self.claims,
            task=task,
            stopped=self.stopped,
            missing=self.missing,
        )

    def curve(self, *, most: int | None = None, time_limit: float = 60.0) -> list[SizeGap]:
        """The least gap of each size among the policies of the run, at every weight.

        Computed once and stored in the run, with the policies of each size; recomputed only
        for larger sizes, or where more time may improve the proof.

        Args:
            most: the largest size of interest; ``None`` means all.
            time_limit: seconds for the whole curve.

        Raises:
            InputError: an argument out of range.
            WorkError: a solver failed.
        """

        def make() -> dict[str, Any]:
            curve = size_gap_curve(
                self.evaluated.candidates,
                most=most,
                solver=self.settings.pruning.solver,
                time_limit=time_limit,
            )
            points = [vars(point) | {"indices": point.indices.tolist()} for point in curve]
            return {"most": most, "time_limit": time_limit, "points": points}

        def read(stored: dict[str, Any]) -> list[SizeGap]:
            points = [
                SizeGap(
                    size=int(point["size"]),
                    epsilon=float(point["epsilon"]),
                    delta=float(point["delta"]),
                    indices=np.array(point["indices"], dtype=np.intp),
                    proven=bool(point["proven"]),
                )
                for point in stored["points"]
            ]
            whole = stored["most"] is None or points[-1].epsilon == 0
            large = whole or (most is not None and most <= stored["most"])
            proven = all(point.proven for point in points)
            places = np.concatenate([point.indices for point in points])
            known = places.min() >= 0 and places.max() < len(self.policies)
            if not (known and large and (proven or stored["time_limit"] >= time_limit)):
                raise ValueError("the stored result is of another run or request")
            return [point for point in points if most is None or point.size <= most]

        pruning = self.settings.pruning
        key = {"solver": pruning.solver, "normalize": pruning.normalize}
        return self.stored("curve", key, make, read)

    @cached_property
    def baselines(self) -> Any:
        """Metrics of baselines of equal size, by name; stored in the run.

        Those for which the oracle would have to be called are left out. An analysis by the
        package that announces it (entry points ``palm.analyses``).

        Raises:
            PluginError: that package is not installed.
        """
        return load_analysis("baselines")(self)

    @cached_property
    def intervals(self) -> Any:
        """Intervals of the portfolio's gaps over prompts, by name, or ``None``; stored in the run.

        Raises:
            PluginError: as for :attr:`baselines`.
        """
        return load_analysis("intervals")(self)

    @cached_property
    def diversity(self) -> Any:
        """Diversity of the portfolio's answers, or ``None`` without responses.

        Raises:
            PluginError: as for :attr:`baselines`.
        """
        return load_analysis("diversity")(self)

    def stored(
        self,
        name: str,
        key: Mapping[str, Any],
        make: Callable[[], dict[str, Any]],
        read: Callable[[dict[str, Any]], T],
    ) -> T:
        """Cache of an expensive result: read from the run, or computed and stored there.

        An unreadable file below ``results/`` counts as missing; in a read-only folder nothing
        is stored.

        Args:
            name: of the result, part of the file's name.
            key: the arguments that the result depends on, besides the answers.
            make: computes the result: numbers (±∞ and NaN too), texts, lists, dictionaries.
            read: converts it; raises ``ValueError``, ``LookupError`` or ``TypeError`` where
                what is stored is damaged or does not suffice, and then it is computed again.
        """
        if self.folder is None:
            return read(make())
        asked = json.dumps([__version__, self._digest, key], sort_keys=True)
        digest = hashlib.sha256(asked.encode()).hexdigest()[:16]
        file = self.folder / RESULTS / f"{name}-{digest}.json"
        # Missing, damaged and insufficient files are all replaced by what is computed.
        with suppress(PalmError, ValueError, LookupError, TypeError, RecursionError):
            return read(json.loads(read_bounded(file, _LARGEST_RESULT, kind="result")))
        made = make()
        # A result that cannot be stored (read-only folder, full disk) is still a result.
        with suppress(OSError, PalmError):
            file.parent.mkdir(exist_ok=True)
            write_atomically(file, json.dumps(made).encode())
        return read(made)

    @cached_property
    def _digest(self) -> str:
        """A hash of the answers: weights, ids, rewards, regularisers."""
        digest = hashlib.sha256()
        for answer in self.answers:
            policy = answer.policy
            parts = (answer.weights, policy.rewards, np.float64(policy.regularizer))
            digest.update(policy.id.encode() + b"".join(np.asarray(x).tobytes() for x in parts))
        return digest.hexdigest()


def open_run(folder: str | Path) -> Run:
    """Read a finished run.

    Args:
        folder: as given to :func:`palm_core.build_portfolio`.

    Raises:
        InputError: no run there, a damaged one, or one whose oracle calls are not all done.
    """
    return Run.open(folder)


State = Literal["running", "finished", "stopped"]

#: Limits of the search for runs: number of folders, depth.
MOST_FOLDERS = 100_000
DEEPEST = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class RunStatus:
    """The status of a run.

    Attributes:
        folder: of the run.
        oracle: its name in the task.
        objectives: d names.
        state: "running" (a process works on it), "finished" (its portfolio is written)
            or "stopped" (``palm build`` resumes it).
        done: weights with an answer.
        failed: weights given up after the last attempt allowed.
        running: weights in progress.
        total: weights in all; adaptively an estimate, ``None`` if there is none.
        exact: whether ``total`` is no estimate.
        seconds_left: estimated remaining time; ``None`` if not running or unknown.
        epsilon: ε certified so far of all policies found; ``None`` if none is.
        delta: δ certified so far; ``None`` if none is.
        conditional_on: condition of both as a sentence; ``None`` for none beyond the rewards.
        refuted: whether an answer is worse than claimed, or than assumed without a claim.
        failures: failed attempts, also those followed by a success.
        interrupted: attempts interrupted by the end of their session.
        missing: the weights given up, with reasons.
        begun: when the run began, UTC in ISO 8601.
        session: the last session.
        portfolio: the portfolio of a finished run; ``None`` before.
    """

    folder: Path
    oracle: str
    objectives: tuple[str, ...]
    state: State
    done: int
    failed: int
    running: int
    total: int | None
    exact: bool
    seconds_left: float | None
    epsilon: float | None
    delta: float | None
    conditional_on: str | None
    refuted: bool
    failures: int
    interrupted: int
    missing: Sequence[Missing]
    begun: str
    session: Session | None
    portfolio: Portfolio | None

    def document(self) -> dict[str, Any]:
        """The status as plain values."""
        last = self.session
        at_work = None
        if last is not None and self.state == "running":
            at_work = {"pid": last.pid, "host": last.host, "since": last.begun}
        certified = None
        if self.delta is not None:
            certified = {
                "epsilon": self.epsilon,
                "delta": self.delta,
                "conditional_on": self.conditional_on,
                "refuted": self.refuted,
            }
        chosen = self.portfolio
        return {
            "run": str(self.folder),
            "state": self.state,
            "oracle": self.oracle,
            "objectives": list(self.objectives),
            "done": self.done,
            "failed": self.failed,
            "running": self.running,
            "total": self.total,
            "total_is_exact": self.exact,
            "seconds_left": self.seconds_left,
            "certificate": certified,
            "portfolio": None
            if chosen is None
            else {
                "policies": [policy.id for policy in chosen.policies],
                "certificate": chosen.certificate,
            },
            "failed_attempts": self.failures,
            "interrupted_attempts": self.interrupted,
            "missing": [
                {
                    "weights": item.weights.tolist(),
                    "attempts": item.attempts,
                    "kind": item.kind,
                    "message": item.message,
                }
                for item in self.missing
            ],
            "begun": self.begun,
            "process": at_work,
            "made_with": None if last is None else dict(last.versions),
        }


def run_status(folder: str | Path, *, certified: bool = True) -> RunStatus:
    """Return the status of a run; read-only.

    Args:
        folder: of the run.
        certified: compute the certificate of the answers so far; takes seconds for
            thousands of them.

    Raises:
        InputError: no run there, or a damaged one.
        WorkError: it cannot be opened.
    """
    place = Path(folder)
    with Ledger.read(place) as ledger:
        # The lock first: a process that exits meanwhile has written everything before releasing it.
        at_work = is_worked_on(place)
        task, objectives, claimed = ledger.task, ledger.objectives, ledger.claims
        counts, missing, finished = ledger.counts(), ledger.missing(), ledger.finished
        begun, sessions = ledger.begun, ledger.sessions()
        answers = ledger.answers() if certified else []
    try:
        settings = Settings.from_tables(task)
        oracle = str(task["oracle"]["name"])
    except (InputError, KeyError, TypeError) as error:
        raise InputError(f"{place}: the stored task cannot be read: {error}") from error
    written = (place / PORTFOLIO_FILE).exists()
    state: State = "running" if at_work else "finished" if finished else "stopped"
    grid = _grid(answers, settings, claimed, len(objectives))
    found = None if grid is None or settings.pruning.normalize != "none" else grid.certificate
    total, exact = _total(settings, len(objectives), grid, counts)
    if state == "finished":
        total, exact = counts.done + counts.failed, True
    last = sessions[-1] if sessions else None
    left = None
    if state == "running" and counts.seconds is not None and total is not None:
        workers = last.workers if last is not None else 1
        left = counts.seconds * max(0, total - counts.done - counts.failed) / workers
    return RunStatus(
        folder=place,
        oracle=oracle,
        objectives=objectives,
        state=state,
        done=counts.done,
        failed=counts.failed,
        running=counts.running if state == "running" else 0,
        total=total,
        exact=exact,
        seconds_left=left,
        epsilon=None if found is None or not np.isfinite(found.epsilon) else found.epsilon,
        delta=None if found is None else found.delta,
        conditional_on=None if found is None else found.conditional_on,
        refuted=found is not None and found.refuted,
        failures=counts.failures,
        # Unfinished attempts of a killed session count as interrupted.
        interrupted=counts.interrupted + (0 if state == "running" else counts.running),
        missing=missing,
        begun=begun,
        session=last,
        portfolio=Portfolio.load(place) if state == "finished" and written else None,
    )


def damaged_artifacts(folder: str | Path) -> list[str]:
    """Verify the content hashes of all artifacts of a run; one line for each difference.

    Raises:
        InputError: no run there, or a damaged one.
        WorkError: it cannot be opened.
    """
    place = Path(folder)
    with Ledger.read(place) as ledger:
        recorded = ledger.artifacts()
    found = (verify_artifact(place / ARTIFACTS, artifact) for artifact in recorded)
    return [complaint for complaint in found if complaint is not None]


def find_runs(folder: str | Path) -> list[Path]:
    """Find the folders of runs in ``folder`` and below it, sorted; links are not followed.

    Raises:
        InputError: no such folder.
    """
    root = Path(folder)
    if not is_folder(root):
        raise not_a_folder(root, "folder")
    return sorted(_runs_below(root))


def _runs_below(root: Path) -> Iterator[Path]:
    level, looked = [root], 0
    for _ in range(DEEPEST + 1):
        deeper: list[Path] = []
        for folder in level:
            looked += 1
            if looked > MOST_FOLDERS:
                raise InputError(
                    f"{root}: more than {MOST_FOLDERS} folders; choose a folder with runs"
                )
            try:
                entries = list(os.scandir(folder))
            except OSError:
                continue  # no permission
            if any(entry.name == FILE_NAME for entry in entries):
                yield folder
                continue
            deeper += [
                Path(entry.path)
                for entry in entries
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
            ]
        level = deeper


def _grid(
    answers: Sequence[Answer], settings: Settings, claimed: Claims, d: int
) -> AdaptiveGrid | None:
    """An :class:`AdaptiveGrid` of the answers so far, also for a run on a grid."""
    if not answers or claimed.epsilon >= 1:
        return None
    grid = AdaptiveGrid(
        d,
        target_epsilon=settings.call_target,
        **claimed.accuracy(),
    )
    try:
        grid.tell(
            np.array([answer.weights for answer in answers]),
            np.array([answer.policy.rewards for answer in answers]),
            np.array([answer.policy.regularizer for answer in answers]),
        )
    except PalmError as error:
        raise InputError(f"the stored answers cannot be read: {error}") from error
    return grid


def _total(
    settings: Settings, d: int, grid: AdaptiveGrid | None, counts: Counts
) -> tuple[int | None, bool]:
    from palm_core.weights.grid import grid_size

    asked = settings.asked
    if isinstance(asked, Grid):
        # An extended run has answers beyond its grid.
        return max(grid_size(d, asked.mu, asked.alpha), counts.requested), True
    more = None if grid is None else grid.expected_calls
    if more is None:
        return asked.max_calls, False
    total = counts.done + counts.failed + more
    return (total if asked.max_calls is None else min(total, asked.max_calls)), False
