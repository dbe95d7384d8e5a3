"""Configuration of runs: settings, execution, task files.

A task is TOML; unknown tables and keys are refused by name. ``[oracle]`` is passed
to the oracle's factory, which validates its options.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import tomllib
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from palm_core.cover.integer_program import SOLVERS
from palm_core.cover.prune import COVERS
from palm_core.errors import InputError, PalmWarning
from palm_core.geometry.compilation import available_cores
from palm_core.geometry.exact import rounded_down, tolerance
from palm_core.model.files import read_bounded
from palm_core.model.normalization import Normalization
from palm_core.oracles.registry import make_oracle
from palm_core.validation import (
    check_choice,
    check_count,
    check_number,
    did_you_mean,
    one_line,
    read_number,
)
from palm_core.weights.grid import ALPHA_HINT, MU_HINT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from palm_core.oracles.protocol import Oracle

#: Name of the folder for unfinished calls in a run's folder, beside its artifacts.
WORK = "work"


def load_task_oracle(task: Task, artifact_dir: Path | None = None) -> Oracle:
    """Make the oracle of a task file; raises as :func:`load_oracle`.

    Args:
        task: the task.
        artifact_dir: the run's folder for artifacts, for a factory that has a parameter
            of that name; ``None`` where nothing is built. A parameter ``work_dir`` gets
            the folder beside it, for data to resume a killed call (checkpoints); only
            the oracle uses it.

    Relative paths in ``[oracle]`` are relative to the task file, for the factory's
    parameters annotated with ``Path``; ``task_dir`` gets its folder, for names that may
    be paths. A factory with a parameter ``run_seed`` gets the seed of ``[run]``, to derive
    its seeds from (run seed, weight vector), so that results do not depend on order and
    workers.

    Raises:
        InputError: an oracle that is not installed, or an option that it does not accept; as
            :func:`load_oracle`.
    """
    work_dir = None if artifact_dir is None else artifact_dir.with_name(WORK)
    offers = {
        "run_seed": task.seed,
        "task_dir": task.folder,
        "artifact_dir": artifact_dir,
        "work_dir": work_dir,
    }
    try:
        return make_oracle(task.oracle, task.folder, task.options, offers=offers)
    except InputError as error:
        # Only this kind of error is about the content of the file.
        if not task.source or type(error) is not InputError:
            raise
        reason = str(error).removeprefix("[oracle] ")
        raise InputError(f"{task.source} [oracle] {reason}") from error


@dataclass(frozen=True)
class TaskOracle:
    """Picklable factory of a task's oracle: see :func:`load_task_oracle`."""

    task: Task
    artifact_dir: Path

    def __call__(self) -> Oracle:
        """Make the oracle."""
        return load_task_oracle(self.task, self.artifact_dir)


#: Tables that determine which weights are asked and how the portfolio is chosen. Answers do
#: not depend on them, so a run may be extended with others.
CHANGEABLE = frozenset({"grid", "adaptive", "prune"})


def with_fingerprint(task: Mapping[str, Any], oracle: object) -> dict[str, Any]:
    """Add the oracle's fingerprint to ``task``: data behind an option's name may change."""
    fingerprint = getattr(oracle, "fingerprint", None)
    if fingerprint is None:
        return dict(task)
    return {**task, "oracle": {**task.get("oracle", {}), "fingerprint": str(fingerprint)}}


def task_hash(task: Mapping[str, Any]) -> str:
    """SHA-256 of a resolved task, as "sha256:…"."""
    canonical = json.dumps(task, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


def changed_fields(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """List the fields in which two resolved tasks differ: "[oracle] beta was 0.1, is 0.2"."""
    lines = []
    for table in sorted({*old, *new}):
        was, now = old.get(table, {}), new.get(table, {})
        for key in sorted({*was, *now}):
            before, after = was.get(key), now.get(key)
            if before != after:
                lines.append(f"[{table}] {key} was {_shown(before)}, is {_shown(after)}")
    return lines


def keeps_answers(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether answers for ``old`` are valid for ``new``: the same oracle and seed."""
    return not changed_fields(fingerprint_fields(old), fingerprint_fields(new))


def fingerprint_fields(task: Mapping[str, Any]) -> dict[str, Any]:
    """The tables of a task that its answers depend on: the oracle, its options, the seed."""
    return {table: entries for table, entries in task.items() if table not in CHANGEABLE}


def _shown(value: Any) -> str:
    if value is None:
        return "not set"
    return repr(value) if isinstance(value, str) else json.dumps(value)


ExecutorName = Literal["local", "ray", "here"]
#: Environment variables for the threads of numerical libraries, read on their import.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
)
EXECUTORS: tuple[str, ...] = get_args(ExecutorName)


@dataclass(frozen=True, kw_only=True)
class Execution:
    """Validated settings of oracle calls: executor, workers, timeout, retries, devices.

    Args:
        executor: "local" (worker processes of this machine), "ray" (a Ray cluster), or
            "here" (this process: no timeout, and a crash of a call ends the run).
        workers: number of concurrent calls, at least 1.
        threads: for numerical libraries in each worker; ``None`` shares the cores among
            the workers. Ray sets its own.
        timeout: seconds for one answer, and for making the oracle; ``None`` for no timeout.
        retries: number of retries of a weight vector after a failure, at least 0.
        batch: weight vectors per call, at least 1, for oracles that share work between
            them; ``None`` takes the oracle's ``batch``, or 1. Here, ``None`` takes all.
        address: of the Ray cluster; ``None`` joins the one this process belongs to, or
            starts one on this machine.
        num_cpus: cores that each Ray worker reserves.
        num_gpus: devices for each worker, also a fraction such as 0.5. Local workers
            share those that ``CUDA_VISIBLE_DEVICES`` lists, or all.

    Raises:
        InputError: a value outside its interval, or settings that exclude each other.
    """

    executor: str = "local"
    workers: int = 1
    threads: int | None = None
    timeout: float | None = None
    retries: int = 2
    batch: int | None = None
    address: str | None = None
    num_cpus: float = 1.0
    num_gpus: float = 0.0

    def __post_init__(self) -> None:
        check_choice(self.executor, EXECUTORS, name="executor")
        check_count(self.workers, name="workers", least=1)
        check_count(self.retries, name="retries", least=0)
        for name in ("threads", "batch"):
            value = getattr(self, name)
            if value is not None:
                check_count(value, name=name, least=1)
        if self.timeout is not None:
            check_number(self.timeout, name="timeout", above=0.0)
        check_number(self.num_cpus, name="num_cpus", least=0.0)
        check_number(self.num_gpus, name="num_gpus", least=0.0)
        if self.address is not None:
            if not isinstance(self.address, str) or not self.address:
                raise InputError(f"address = {self.address!r}: must be the address of a cluster")
            if self.executor != "ray":
                raise InputError(f"address = {self.address!r}: requires executor = 'ray'")
        if self.executor == "here":
            if self.workers != 1:
                raise InputError(f"workers = {self.workers}: must be 1 with executor = 'here'")
            if self.timeout is not None:
                raise InputError(
                    f"timeout = {self.timeout:g}: executor = 'here' cannot interrupt a call; "
                    "requires executor = 'local'"
                )

    @property
    def threads_each(self) -> int:
        """Threads for each local worker: as set, or an equal share of the cores."""
        return self.threads or max(1, available_cores() // self.workers)

    def devices(self, slot: int, visible: str | None = None) -> str | None:
        """``CUDA_VISIBLE_DEVICES`` for the worker in ``slot`` (from 0); ``None`` leaves it.

        Workers with a fraction of a device share it, the others get whole devices, in turn.

        Args:
            slot: of the worker.
            visible: ``CUDA_VISIBLE_DEVICES`` of this process.

        Raises:
            InputError: the workers need more devices than are listed.
        """
        if self.num_gpus == 0:
            return None
        each = math.ceil(self.num_gpus)
        sharing = int(1 / self.num_gpus + 1e-9) if self.num_gpus < 1 else 1
        first = slot // sharing * each
        wanted = range(first, first + each)
        if visible is None:
            return ",".join(map(str, wanted))
        listed = [name.strip() for name in visible.split(",") if name.strip()]
        if wanted.stop > len(listed):
            raise InputError(
                f"num_gpus = {self.num_gpus:g} for {self.workers} workers: must be at most the "
                f"{len(listed)} devices in CUDA_VISIBLE_DEVICES"
            )
        return ",".join(listed[i] for i in wanted)


TARGET_HINT = "0.01 means within 1 % of the best there is"
METHODS = ("minimal", *COVERS)
_ASKED = ("grid", "adaptive")
#: Default ε of "minimal" on a grid, which does not use the grid's μ.
MINIMAL_EPSILON = 0.05


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The paper's grid of weights.

    Args:
        mu: multiplicative step μ in (0, 1].
        alpha: additive threshold α in (0, 1].
    """

    mu: float
    alpha: float


@dataclass(frozen=True, kw_only=True)
class Adaptive:
    """Weights asked where the certified gap is largest.

    Args:
        target_epsilon: ask until the portfolio is certified to this gap in (0, 1]; where the
            share for pruning is no smaller, until all policies found are.
        max_calls: maximum number of calls; ``None`` for no limit.
    """

    target_epsilon: float
    max_calls: int | None = None


@dataclass(frozen=True, kw_only=True)
class PruneSettings:
    """How few of the policies are kept.

    A tolerance at every weight is called ``epsilon`` (share) and ``delta`` (amount), one at the
    weights asked, as in the paper's PRUNE, ``mu`` and ``alpha``.

    Args:
        epsilon: ε in [0, 1] at every weight, for "minimal": by default 0.05 on a grid,
            adaptively the share of ``target_epsilon`` that the calls leave.
        delta: δ ≥ 0 at every weight, in units of (normalised) reward.
        mu: μ' in [0, 1] at the weights asked, for "greedy" and "exact": by default the grid's
            μ, as in Algorithm 1; adaptively what the calls leave.
        alpha: α' ≥ 0 at the weights asked, in units of (normalised) reward.
        method: "minimal" (fewest at every weight, :func:`palm_core.minimal_portfolio`),
            "exact" or "greedy" (at the weights asked, :func:`palm_core.prune`).
        solver: "cbc" or "highs" for the integer program, ``None`` chooses.
        time_limit: seconds for the whole search of the portfolio.
        normalize: "none" or "minmax", see :class:`palm_core.Normalization`.
    """

    epsilon: float | None = None
    delta: float = 0.0
    mu: float | None = None
    alpha: float = 0.0
    method: str = "minimal"
    solver: str | None = None
    time_limit: float = 60.0
    normalize: str = "none"

    @property
    def everywhere(self) -> bool:
        """Whether the tolerance is met at every weight."""
        return self.method == "minimal"

    @property
    def share(self) -> float | None:
        """ε or μ', whichever the method has; ``None`` for what the calls leave."""
        return self.epsilon if self.everywhere else self.mu

    @property
    def amount(self) -> float:
        """δ or α', whichever the method has."""
        return self.delta if self.everywhere else self.alpha


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a run: at which weights the oracle is asked, and pruning.

    Made by :meth:`read`, which validates them; they are trusted afterwards.
    """

    asked: Grid | Adaptive
    pruning: PruneSettings

    @property
    def call_target(self) -> float | None:
        """The gap to certify by calls, so that the pruned portfolio meets the target.

        (1 − calls)(1 − pruning) = 1 − target, split evenly unless the settings have the share
        of pruning. Where that is more than the target, the target is for the calls.
        """
        if isinstance(self.asked, Grid):
            return None
        target, share = self.asked.target_epsilon, self.pruning.share
        if share is None:
            return 1.0 - math.sqrt(1.0 - target)
        if share >= target:
            return target
        return share_left(target, share)

    def tables(self) -> dict[str, dict[str, Any]]:
        """Convert to the tables of a task: ``[grid]`` or ``[adaptive]``, and ``[prune]``."""
        of_others = ("mu", "alpha") if self.pruning.everywhere else ("epsilon", "delta")
        prune = {key: value for key, value in vars(self.pruning).items() if key not in of_others}
        table = "grid" if isinstance(self.asked, Grid) else "adaptive"
        return {table: dict(vars(self.asked)), "prune": prune}

    @classmethod
    def read(
        cls,
        tables: Mapping[str, Any],
        *,
        name: Callable[[str, str], str] | None = None,
        warn: bool = True,
    ) -> Settings:
        """Validate settings and fill in defaults.

        Args:
            tables: "grid" or "adaptive", and "prune", as in a task file; entries that are
                ``None`` count as missing.
            name: the name of an entry in messages, by its table and key.
            warn: warn about names of earlier versions; stored tasks have them.

        Raises:
            InputError: an entry is unknown, missing or not acceptable, or two exclude each
                other.
        """
        name = name or (lambda table, key: f"[{table}] {key}")
        given = {
            table: {
                key: reader[key](value, name(table, key))
                for key, value in tables.get(table, {}).items()
                if value is not None
            }
            for table, reader in SETTINGS.items()
        }
        asked: Grid | Adaptive
        prune = given["prune"]
        if "adaptive" not in tables:
            for key, hint in (("mu", MU_HINT), ("alpha", ALPHA_HINT)):
                if key not in given["grid"]:
                    where = name("grid", key)
                    other = name("adaptive", "target_epsilon")
                    raise InputError(
                        f"{where}: is missing, must be in (0, 1]; {hint} (or give {other})"
                    )
            asked = Grid(**given["grid"])
        elif "grid" in tables:
            pair = [next(iter([name(t, key) for key in given[t]]), f"[{t}]") for t in _ASKED]
            raise InputError(f"{' and '.join(pair)} exclude each other: keep one of them")
        elif "target_epsilon" not in given["adaptive"]:
            where = name("adaptive", "target_epsilon")
            raise InputError(f"{where}: is missing, must be in (0, 1]; {TARGET_HINT}")
        elif prune.get("normalize", "none") != "none":
            raise InputError(
                f"{name('prune', 'normalize')} = {prune['normalize']!r}: requires a grid; an "
                "adaptive run needs an oracle whose rewards are already on one scale"
            )
        else:
            asked = Adaptive(**given["adaptive"])
        prune = _one_tolerance(prune, lambda key: name("prune", key), warn=warn)
        if isinstance(asked, Grid):
            minimal = prune["method"] == "minimal"
            share, default = ("epsilon", MINIMAL_EPSILON) if minimal else ("mu", asked.mu)
            prune.setdefault(share, default)
        return cls(asked=asked, pruning=PruneSettings(**prune))

    def with_pruning(
        self, given: Mapping[str, Any], *, name: Callable[[str, str], str] | None = None
    ) -> Settings:
        """The settings with other entries of "prune"; what is ``None`` stays.

        With another method, the tolerance is that method's default unless it is given.

        Raises:
            InputError: as :meth:`read`.
        """
        name = name or (lambda table, key: f"[{table}] {key}")
        changes = {
            key: SETTINGS["prune"][key](value, name("prune", key))
            for key, value in given.items()
            if value is not None
        }
        old = self.tables()
        if not {"epsilon", "delta"} & changes.keys():
            changes = {"method": self.pruning.method} | changes
        changes = _one_tolerance(changes, lambda key: name("prune", key), warn=True)
        if changes["method"] != "minimal" or not self.pruning.everywhere:
            gone = ("epsilon", "delta") if changes["method"] != "minimal" else ("mu", "alpha")
            old["prune"] = {key: v for key, v in old["prune"].items() if key not in gone}
        return self.read({**old, "prune": old["prune"] | changes}, name=name)

    @classmethod
    def from_tables(cls, tables: Mapping[str, Any]) -> Settings:
        """The settings of a stored task, also of an earlier version.

        Raises:
            InputError: an entry is missing or not acceptable.
        """
        try:
            present = {key: tables[key] for key in SETTINGS if key in tables or key == "prune"}
            return cls.read(present, warn=False)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise InputError(f"the stored task cannot be read: {error}") from error


def _one_tolerance(
    given: Mapping[str, Any], name: Callable[[str], str], *, warn: bool
) -> dict[str, Any]:
    """Entries of "prune" with one kind of tolerance and its method.

    ``mu`` and ``alpha`` are accepted for "minimal", as ``epsilon`` and ``delta`` were called
    before.
    """
    found = dict(given)
    everywhere = [key for key in ("epsilon", "delta") if key in found]
    at_weights = [key for key in ("mu", "alpha") if key in found]
    if everywhere and at_weights:
        raise InputError(
            f"{name(everywhere[0])} and {name(at_weights[0])}: exclude each other; epsilon and "
            "delta are met at every weight, mu and alpha at the weights asked"
        )
    method = found.setdefault("method", "minimal")
    if everywhere and method != "minimal":
        key = everywhere[0]
        raise InputError(
            f"{name(key)} = {found[key]:g}: is met at every weight, which method = 'minimal' "
            f"covers; {method!r} covers the weights asked, within mu and alpha"
        )
    if method == "minimal":
        for old, new in (("mu", "epsilon"), ("alpha", "delta")):
            if old in found:
                found[new] = found.pop(old)
                if warn:
                    warnings.warn(
                        f"{name(old)}: with method = 'minimal' the tolerance is met at every "
                        f"weight and called {new}; {old} is for 'greedy' and 'exact'",
                        PalmWarning,
                        stacklevel=4,
                    )
    return found


def share_left(target: float, used: float) -> float:
    """The largest share x with (1 − used)(1 − x) ≥ 1 − target; ``used`` is below 1."""
    left = 1 - (1 - tolerance(target)) / (1 - tolerance(used))
    return max(0.0, rounded_down(left))


LARGEST_FILE = 1 << 20
DEEPEST = 32
_LARGEST_INT = 1 << 63
# tomllib is quadratic in the parts of a dotted key: a minute for 100 KB.
_PART = r"""(?:[A-Za-z0-9_-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')"""
_LONG_KEY = re.compile(rf"(?<![A-Za-z0-9_\\-])(?:{_PART}[ \t]*+\.[ \t]*+){{{DEEPEST + 1}}}")


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task file, resolved: every default filled in.

    Args:
        oracle: an entry point of ``palm.oracles`` or "package.module:factory".
        options: keyword options of the oracle's factory.
        settings: the grid and the pruning.
        seed: the run's seed.
        execution: settings of the calls; not part of the task's identity.
        folder: base of relative modules and paths in the task.
        study: comparison with published results, for ``palm reproduce``, which validates
            it; not part of the task's identity.
        source: its file name for messages; "" without a file.
    """

    oracle: str
    options: Mapping[str, Any]
    settings: Settings
    seed: int = 0
    execution: Execution = field(default_factory=Execution)
    folder: Path = Path()
    study: Mapping[str, Any] = field(default_factory=dict)
    source: str = field(default="", compare=False)

    def resolved(self) -> dict[str, Any]:
        """The resolved task as plain values: stored with the run, input of its hash."""
        return {
            "oracle": {"name": self.oracle, **self.options},
            **self.settings.tables(),
            "run": {"seed": self.seed},
        }


def load_task(
    path: str | Path, *, target_epsilon: float | None = None, max_calls: int | None = None
) -> Task:
    """Read and check a task file.

    Args:
        path: the file.
        target_epsilon: ask adaptively to this gap; overrides the file.
        max_calls: maximum number of calls; overrides the file.

    Raises:
        InputError: one line with the file, the table, the key, its value and
            what would be accepted.
    """
    file = Path(path)
    content = read_toml(read_bounded(file, LARGEST_FILE, kind="task file"), one_line(file))
    if target_epsilon is not None:
        content.pop("grid", None)
        content["adaptive"] = {"target_epsilon": target_epsilon}
    if max_calls is not None:
        if not isinstance(content.get("adaptive"), dict):
            raise InputError(f"max_calls = {max_calls}: requires a target")
        content["adaptive"]["max_calls"] = max_calls
    try:
        return replace(parse_task(content, folder=file.parent), source=one_line(file.name))
    except InputError as error:
        raise InputError(one_line(f"{file.name} {error}")) from error


def read_toml(data: bytes, source: str) -> dict[str, Any]:
    """Parse untrusted TOML: in linear time, nested at most :data:`DEEPEST` deep.

    Args:
        data: contents of the file.
        source: its name in error messages.

    Raises:
        InputError: not TOML, or numbers, names or tables that no task has.
    """
    try:
        text = data.decode("utf-8-sig")  # some editors write a byte order mark
        if _LONG_KEY.search(text):
            raise InputError(f"{source}: a key has more than {DEEPEST} dotted parts")
        content = tomllib.loads(text)
    except InputError:
        raise
    except UnicodeDecodeError as error:
        raise InputError(
            f"{source}: is not TOML: must be UTF-8 text, byte {error.start} is not"
        ) from error
    # ValueError: not TOML, or a number with too many digits for Python
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source}: is not TOML: {one_line(error)}") from error
    _check_plain(content, source)
    return content


def _check_plain(content: dict[str, Any], source: str) -> None:
    """Refuse values that cannot be hashed or shown: nesting depth, integers beyond TOML's."""
    level: list[Any] = [content]
    for _ in range(DEEPEST):
        inner = [x for node in level for x in (node.values() if isinstance(node, dict) else node)]
        for value in inner:
            if isinstance(value, int) and not -_LARGEST_INT <= value < _LARGEST_INT:
                raise InputError(f"{source}: a whole number has more than 64 bits")
        level = [x for x in inner if isinstance(x, (dict, list))]
        if not level:
            return
    raise InputError(f"{source}: tables and arrays are nested more than {DEEPEST} deep")


def parse_task(content: Mapping[str, Any], *, folder: Path | None = None) -> Task:
    """Validate the parsed tables of a task.

    Raises:
        InputError: an unknown, missing or unacceptable entry.
    """
    _known(content, TASK_TABLES, "", "table")
    for name, readers in TASK_TABLES.items():
        given = content.get(name, {})
        if not isinstance(given, dict):
            raise InputError(f"[{name}] = {given!r}: must be a table")
        if readers is not None:  # the others are validated elsewhere
            _known(given, readers, f"[{name}] ", "key")
    oracle = dict(content.get("oracle", {}))
    run = {key: _RUN[key](value, f"[run] {key}") for key, value in content.get("run", {}).items()}
    name = oracle.pop("name", None)
    if name is None:
        raise InputError('[oracle] name: is missing; `name = "tabular"` is the embedded oracle')
    if not isinstance(name, str) or not name:
        raise InputError(f"[oracle] name = {name!r}: must be the name of an oracle")
    return Task(
        oracle=name,
        options=_plain(oracle),
        settings=Settings.read({key: content[key] for key in SETTINGS if key in content}),
        seed=run.pop("seed", 0),
        execution=_execution(run),
        folder=folder or Path(),
        study=content.get("study", {}),
    )


def _execution(run: Mapping[str, Any]) -> Execution:
    try:
        return Execution(**run)
    except InputError as error:
        raise InputError(f"[run] {error}") from error


def _known(given: Mapping[str, Any], accepted: Mapping[str, Any], where: str, kind: str) -> None:
    for name in given:
        if name in accepted:
            continue
        ask = did_you_mean(name, accepted) or f"; must be one of {', '.join(accepted)}"
        raise InputError(f"{where}{name}: unknown {kind}{ask}")


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return dict(json.loads(json.dumps(options, allow_nan=False)))
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"[oracle]: options must be plain finite values: {error}") from error


def _number(hint: str = "", **limits: float) -> Callable[[Any, str], float]:
    def read(value: Any, name: str) -> float:
        if isinstance(value, str):  # "8/30", as the paper writes its parameters
            try:
                value = read_number(value)
            except (ValueError, ZeroDivisionError):
                raise InputError(f"{name} = {value!r}: must be a number or a fraction") from None
        return check_number(value, name=name, hint=hint, **limits)

    return read


def _choice(accepted: tuple[str, ...]) -> Callable[[Any, str], str]:
    return lambda value, name: check_choice(value, accepted, name=name)


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value:
        raise InputError(f"{name} = {value!r}: must be text")
    return value


def _count(least: int) -> Callable[[Any, str], int]:
    return lambda value, name: check_count(value, name=name, least=least)


#: Entries of the settings: table → key → what reads and validates a value.
SETTINGS: dict[str, dict[str, Callable[[Any, str], Any]]] = {
    "grid": {
        "mu": _number(MU_HINT, above=0.0, most=1.0),
        "alpha": _number(ALPHA_HINT, above=0.0, most=1.0),
    },
    "adaptive": {
        "target_epsilon": _number(TARGET_HINT, above=0.0, most=1.0),
        "max_calls": _count(1),
    },
    "prune": {
        "epsilon": _number(least=0.0, most=1.0),
        "delta": _number(least=0.0),
        "mu": _number(least=0.0, most=1.0),
        "alpha": _number(least=0.0),
        "method": _choice(METHODS),
        "solver": _choice(SOLVERS),
        "time_limit": _number(above=0.0),
        "normalize": _choice(Normalization.METHODS),
    },
}
_RUN: dict[str, Callable[[Any, str], Any]] = {
    "seed": _count(0),
    "executor": _choice(EXECUTORS),
    "workers": _count(1),
    "threads": _count(1),
    "timeout": _number(above=0.0),
    "retries": _count(0),
    "batch": _count(1),
    "address": _text,
    "num_cpus": _number(least=0.0),
    "num_gpus": _number(least=0.0),
}
#: All tables of a task file; ``None`` for those that others validate.
TASK_TABLES: dict[str, dict[str, Callable[[Any, str], Any]] | None] = {
    "oracle": None,
    "study": None,
    **SETTINGS,
    "run": _RUN,
}
