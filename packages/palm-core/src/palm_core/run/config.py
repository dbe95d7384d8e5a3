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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from palm_core.cover.integer_program import SOLVERS
from palm_core.cover.prune import COVERS
from palm_core.errors import (
    InputError,
)
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
        told = str(error).removeprefix("[oracle] ")
        raise InputError(f"{task.source} [oracle] {told}") from error


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
        if self.executor not in EXECUTORS:
            raise InputError(f"executor = {self.executor!r}: must be one of {', '.join(EXECUTORS)}")
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
                raise InputError(f"address = {self.address!r}: goes with executor = 'ray' only")
        if self.executor == "here":
            if self.workers != 1:
                raise InputError(
                    f"workers = {self.workers}: executor = 'here' makes one call at a time"
                )
            if self.timeout is not None:
                raise InputError(
                    f"timeout = {self.timeout:g}: executor = 'here' cannot interrupt a call; "
                    "use 'local'"
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
            InputError: more devices are asked for than are listed.
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
                f"num_gpus = {self.num_gpus:g} for {self.workers} workers: "
                f"CUDA_VISIBLE_DEVICES lists {len(listed)}"
            )
        return ",".join(listed[i] for i in wanted)


TARGET_HINT = "0.01 means within 1 % of the best there is"
METHODS = ("minimal", *COVERS)
#: Default μ' of "minimal" on a grid, which does not use the grid's μ.
MINIMAL_MU = 0.05


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Validated settings of a run: a grid or an adaptive grid, and pruning.

    Args:
        mu: the grid's multiplicative step μ in (0, 1].
        alpha: the grid's additive threshold α in (0, 1].
        target_epsilon: ask adaptively until the portfolio is certified to this gap in
            (0, 1]; where ``prune_mu`` is no smaller, until all policies found are.
        max_calls: maximum number of adaptive calls; ``None`` for no limit.
        prune_mu: μ' in [0, 1]. ``None`` takes μ for the covers "greedy" and "exact", as
            Algorithm 1 does, and 0.05 for "minimal"; adaptively, the remaining share of
            ``target_epsilon``.
        prune_alpha: α' ≥ 0, in units of (normalised) reward.
        method: "minimal" (fewest at every weight, :func:`palm_core.minimal_portfolio`),
            "exact" or "greedy" (at the weights asked, :func:`palm_core.prune`).
        solver: "cbc" or "highs" for the integer program, ``None`` chooses.
        time_limit: seconds for the whole search of the portfolio.
        normalize: "none" or "minmax", see :class:`palm_core.Normalization`.

    Raises:
        InputError: a value outside its interval, an unknown name, or settings that
            exclude each other.
    """

    mu: float | None = None
    alpha: float | None = None
    target_epsilon: float | None = None
    max_calls: int | None = None
    prune_mu: float | None = None
    prune_alpha: float = 0.0
    method: str = "minimal"
    solver: str | None = None
    time_limit: float = 60.0
    normalize: str = "none"

    def __post_init__(self) -> None:
        if self.target_epsilon is None:
            check_number(self.mu, name="mu", above=0.0, most=1.0, hint=MU_HINT)
            check_number(self.alpha, name="alpha", above=0.0, most=1.0, hint=ALPHA_HINT)
            if self.max_calls is not None:
                raise InputError(f"max_calls = {self.max_calls}: goes with target_epsilon only")
            if self.prune_mu is None:
                mu = self.mu if self.method in COVERS else MINIMAL_MU
                object.__setattr__(self, "prune_mu", mu)
        else:
            self._check_adaptive(self.target_epsilon)
        if self.prune_mu is not None:
            check_number(self.prune_mu, name="prune_mu", least=0.0, most=1.0)
        check_number(self.prune_alpha, name="prune_alpha", least=0.0)
        check_number(self.time_limit, name="time_limit", above=0.0)
        check_choice(self.method, METHODS, name="method")
        check_choice(self.normalize, Normalization.METHODS, name="normalize")
        if self.solver is not None:
            check_choice(self.solver, SOLVERS, name="solver")

    def _check_adaptive(self, target: float) -> None:
        for name in ("mu", "alpha"):
            value = getattr(self, name)
            if value is not None:
                raise InputError(f"{name} = {value}: a grid and target_epsilon exclude each other")
        check_number(target, name="target_epsilon", above=0.0, most=1.0, hint=TARGET_HINT)
        if self.max_calls is not None:
            check_count(self.max_calls, name="max_calls", least=1)
        if self.normalize != "none":
            raise InputError(
                f"normalize = {self.normalize!r}: goes with a grid only; asked adaptively, the "
                "oracle's rewards have to be on one scale already"
            )

    @property
    def call_target(self) -> float | None:
        """The gap to certify by calls, so that the pruned portfolio meets the target.

        (1 − calls)(1 − pruning) = 1 − target, split evenly unless ``prune_mu`` sets the share
        of pruning. Where that is more than the target, the target is for the calls.
        """
        target, mu = self.target_epsilon, self.prune_mu
        if target is None:
            return None
        if mu is None:
            return 1.0 - math.sqrt(1.0 - target)
        if mu >= target:
            return target
        return share_left(target, mu)

    def tables(self) -> dict[str, dict[str, Any]]:
        """Convert to the tables of a task: ``[grid]`` or ``[adaptive]``, and ``[prune]``."""
        asked: dict[str, dict[str, Any]] = {"grid": {"mu": self.mu, "alpha": self.alpha}}
        if self.target_epsilon is not None:
            asked = {
                "adaptive": {"target_epsilon": self.target_epsilon, "max_calls": self.max_calls}
            }
        return {
            **asked,
            "prune": {
                "mu": self.prune_mu,
                "alpha": self.prune_alpha,
                "method": self.method,
                "solver": self.solver,
                "time_limit": self.time_limit,
                "normalize": self.normalize,
            },
        }

    @classmethod
    def from_tables(cls, tables: Mapping[str, Any]) -> Settings:
        """The settings from the result of :meth:`tables`.

        Raises:
            InputError: an entry is missing or not acceptable.
        """
        try:
            prune = dict(tables["prune"])
            asked = tables["adaptive"] if "adaptive" in tables else tables["grid"]
            return cls(prune_mu=prune.pop("mu"), prune_alpha=prune.pop("alpha"), **asked, **prune)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"the stored task cannot be read: {error}") from error


def share_left(target: float, used: float) -> float:
    """The largest share x with (1 − used)(1 − x) ≥ 1 − target; ``used`` is below 1."""
    left = 1 - (1 - tolerance(target)) / (1 - tolerance(used))
    return max(0.0, rounded_down(left))


#: Keys of [prune] in a task → names in the library.
PRUNE_NAMES = {"mu": "prune_mu", "alpha": "prune_alpha"}
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
            raise InputError(f"max_calls = {max_calls}: goes with a target only")
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
            raise InputError(f"{source}: a name of more than {DEEPEST} dotted parts")
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
                raise InputError(f"{source}: a whole number of more than 64 bits")
        level = [x for x in inner if isinstance(x, (dict, list))]
        if not level:
            return
    raise InputError(f"{source}: tables and arrays are nested more than {DEEPEST} deep")


def parse_task(content: Mapping[str, Any], *, folder: Path | None = None) -> Task:
    """Validate the parsed tables of a task.

    Raises:
        InputError: an unknown, missing or unacceptable entry.
    """
    _known(content, _TABLES, "", "table")
    tables: dict[str, dict[str, Any]] = {}
    for name, reader in _TABLES.items():
        given = content.get(name, {})
        if not isinstance(given, dict):
            raise InputError(f"[{name}] = {given!r}: must be a table")
        tables[name] = {}
        for key, value in given.items():
            if reader is None:  # validated elsewhere
                tables[name][key] = value
                continue
            _known(given, reader, f"[{name}] ", "key")
            tables[name][key] = reader[key](value, f"[{name}] {key}")
    oracle = tables["oracle"]
    name = oracle.pop("name", None)
    if name is None:
        raise InputError('[oracle] name: is missing; `name = "tabular"` is the embedded oracle')
    if not isinstance(name, str) or not name:
        raise InputError(f"[oracle] name = {name!r}: must be the name of an oracle")
    grid, prune, run = tables["grid"], tables["prune"], tables["run"]
    return Task(
        oracle=name,
        options=_plain(oracle),
        settings=_settings(content, grid, tables["adaptive"], prune),
        seed=run.pop("seed", 0),
        execution=_execution(run),
        folder=folder or Path(),
        study=tables["study"],
    )


def _execution(run: Mapping[str, Any]) -> Execution:
    try:
        return Execution(**run)
    except InputError as error:
        raise InputError(f"[run] {error}") from error


def _settings(
    content: Mapping[str, Any],
    grid: Mapping[str, Any],
    adaptive: Mapping[str, Any],
    prune: dict[str, Any],
) -> Settings:
    if "adaptive" in content:
        if "grid" in content:
            raise InputError("[grid] and [adaptive] exclude each other: keep one of them")
        if "target_epsilon" not in adaptive:
            raise InputError(
                f"[adaptive] target_epsilon: is missing, must be in (0, 1]; {TARGET_HINT}"
            )
        if "normalize" in prune and prune["normalize"] != "none":
            raise InputError(
                f"[prune] normalize = {prune['normalize']!r}: goes with [grid] only; asked "
                "adaptively, the oracle's rewards have to be on one scale already"
            )
    else:
        for key, hint in (("mu", MU_HINT), ("alpha", ALPHA_HINT)):
            if key not in grid:
                raise InputError(
                    f"[grid] {key}: is missing, must be in (0, 1]; {hint} (or use [adaptive])"
                )
    renamed = {PRUNE_NAMES.get(key, key): value for key, value in prune.items()}
    return Settings(**grid, **adaptive, **renamed)


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


_TABLES: dict[str, dict[str, Callable[[Any, str], Any]] | None] = {
    "oracle": None,
    "study": None,
    "grid": {
        "mu": _number(MU_HINT, above=0.0, most=1.0),
        "alpha": _number(ALPHA_HINT, above=0.0, most=1.0),
    },
    "adaptive": {
        "target_epsilon": _number(TARGET_HINT, above=0.0, most=1.0),
        "max_calls": _count(1),
    },
    "prune": {
        "mu": _number(least=0.0, most=1.0),
        "alpha": _number(least=0.0),
        "method": _choice(METHODS),
        "solver": _choice(SOLVERS),
        "time_limit": _number(above=0.0),
        "normalize": _choice(Normalization.METHODS),
    },
    "run": {
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
    },
}
