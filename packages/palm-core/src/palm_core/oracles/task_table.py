"""Task tables: rewards by prompt and response, for the tabular oracle."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from palm_core.errors import InputError
from palm_core.model.files import is_folder, read_bounded
from palm_core.model.policy import LARGEST_REWARD
from palm_core.tables.read import read_npz
from palm_core.validation import SUM_TOLERANCE, check_count, is_plain, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from palm_core.tables.read import Table

# Size limit: a gigabyte of rewards; anything larger is an error.
LARGEST_TABLE = 1 << 27
LARGEST_FILE = 10 * LARGEST_TABLE
# Smaller limit of a padded table: prompts with fewer responses have empty cells.
LARGEST_LONG_TABLE = 1 << 24
COLUMNS = ("prompt", "response", "reference")


@dataclass(frozen=True, eq=False)
class TaskTable:
    """Rewards r_i(x, y) and reference π_ref(y|x) of finitely many responses.

    Args:
        rewards: (n_prompts, n_responses, d), finite.
        reference: (n_prompts, n_responses), each row a distribution; responses
            of probability 0 do not exist. ``None`` means uniform.
        objectives: d names; ``None`` gives "objective 1" and so on.
        prompts: names for error messages; ``None`` numbers them from 0.

    Raises:
        InputError: wrong shapes, fewer than two objectives, values that are
            not finite, negative probabilities, or a prompt whose reference
            does not add to 1 within 1e-6.

    Example:
        >>> TaskTable([[[1.0, 0.0], [0.0, 1.0]]])
        TaskTable(1 × 2, objectives=('objective 1', 'objective 2'))
    """

    rewards: NDArray[np.float64]
    reference: NDArray[np.float64]
    objectives: tuple[str, ...]

    def __init__(
        self,
        rewards: ArrayLike,
        reference: ArrayLike | None = None,
        objectives: Sequence[str] | None = None,
        *,
        prompts: Sequence[str] | None = None,
    ) -> None:
        r = _numbers(rewards, "rewards", ("n_prompts", "n_responses", "d"))
        if r.shape[2] < 2:
            raise InputError(f"rewards: at least 2 objectives are needed, got {r.shape[2]}")
        shape = r.shape[:2]
        if reference is None:
            p = np.full(shape, 1 / shape[1])
        else:
            p = _numbers(reference, "reference", ("n_prompts", "n_responses"))
            if p.shape != shape:
                raise InputError(f"reference: must have shape {shape}, has {p.shape}")
        labels = [str(i) for i in range(len(p))] if prompts is None else list(prompts)
        total = p.sum(axis=1)
        for bad, complaint in (
            ((p < 0).any(axis=1), "has a negative reference probability"),
            (np.abs(total - 1) > SUM_TOLERANCE, "reference adds to {:.6g}, must add to 1"),
        ):
            if bad.any():
                index = int(np.argmax(bad))
                raise InputError(f"prompt {labels[index]!r}: {complaint.format(total[index])}")
        # not renormalised for rounding alone, so that a saved table reads back unchanged
        off = np.abs(total - 1) > 1e-12
        p[off] /= total[off, np.newaxis]
        for array in (r, p):
            array.flags.writeable = False
        object.__setattr__(self, "rewards", r)
        object.__setattr__(self, "reference", p)
        object.__setattr__(self, "objectives", _objectives(objectives, r.shape[2]))

    def __repr__(self) -> str:
        prompts, responses = self.reference.shape
        return f"TaskTable({prompts} × {responses}, objectives={self.objectives})"


def make_task(
    objectives: Sequence[str] = ("helpful", "brief"),
    *,
    n_prompts: int = 20,
    n_responses: int = 200,
    seed: int = 0,
) -> TaskTable:
    """Generate a task table with competing objectives; rewards in [0, 1].

    Each response has a latent length, quality, risk and wit. "brief" falls with
    length and needs a correct answer (paper, equation 3); "helpful" rises with
    length, with diminishing returns, and with quality and some risk, which lowers
    "safe"; "humour" is independent. Other names get rewards from a Gaussian
    copula with negative correlations. The reference policy prefers fluent
    answers of middling length and some quality.

    Args:
        objectives: at least 2 names, in this order. Common variants are
            accepted ("brevity", "harmless", "humor", …).
        n_prompts: number of prompts.
        n_responses: responses per prompt, at least 2.
        seed: equal seeds give equal tables.

    Raises:
        InputError: fewer than 2 names, names that repeat, counts out of range.

    Example:
        >>> make_task(("helpful", "brief", "safe"), n_prompts=3, n_responses=50)
        TaskTable(3 × 50, objectives=('helpful', 'brief', 'safe'))
    """
    if isinstance(objectives, str):
        raise InputError(f"objectives = {objectives!r}: must be a list of names")
    d = len(objectives)
    if d < 2:
        raise InputError(f"objectives: at least 2 are needed, got {d}")
    names = _objectives(objectives, d)
    shape = (
        check_count(n_prompts, name="n_prompts", least=1),
        check_count(n_responses, name="n_responses", least=2),
    )
    if shape[0] * shape[1] * d > LARGEST_TABLE:
        raise InputError(
            f"{shape[0]} prompts × {shape[1]} responses × {d} objectives: "
            f"must be at most {LARGEST_TABLE} rewards"
        )
    rng = np.random.default_rng(check_count(seed, name="seed", least=0))
    latent = _Latent(rng, shape)
    rewards = np.empty((*shape, d))
    other = []
    kinds = [_KINDS.get(name.lower()) for name in names]
    for i, kind in enumerate(kinds):
        # "safe" beside "harmless": the second would duplicate the first
        if kind is None or kind in kinds[:i]:
            other.append(i)
        else:
            rewards[..., i] = kind(latent)
    if other:
        z = rng.standard_normal((*shape, len(other)))
        # minus the mean: raising one lowers the others
        z -= 0.8 * z.mean(axis=2, keepdims=True)
        rewards[..., other] = _logistic(1.7 * z)
    return TaskTable(rewards, latent.reference(), names)


class _Latent:
    """Latent variables of responses: (n_prompts, n_responses) each, drawn in a fixed order."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, int]) -> None:
        self.difficulty = rng.standard_normal((shape[0], 1))
        self.length = _logistic(1.2 * rng.standard_normal(shape) + 0.4 * self.difficulty)
        self.quality, self.risk, self.wit, self.fluency = rng.standard_normal((4, *shape))

    def helpful(self) -> NDArray[np.float64]:
        need = 0.25 * np.exp(0.4 * self.difficulty)
        explained = 1 - np.exp(-self.length / need)
        return explained * _logistic(0.5 + self.quality + 0.7 * self.risk)

    def brief(self) -> NDArray[np.float64]:
        return np.where(self.quality > -0.8, 1 - self.length, 0.0)  # wrong answers get 0

    def safe(self) -> NDArray[np.float64]:
        return _logistic(1 - 1.5 * self.risk)

    def humour(self) -> NDArray[np.float64]:
        return _logistic(1.5 * self.wit - 1)

    def reference(self) -> NDArray[np.float64]:
        middling = ((self.length - 0.5) / 0.3) ** 2
        score = self.fluency + 0.5 * self.quality - 0.5 * middling
        p = np.exp(score - score.max(axis=1, keepdims=True))
        return np.asarray(p / p.sum(axis=1, keepdims=True))


_KINDS: dict[str, Callable[[_Latent], NDArray[np.float64]]] = {
    name: kind
    for kind, names in {
        _Latent.helpful: ("helpful", "helpfulness"),
        _Latent.brief: ("brief", "brevity", "concise", "conciseness"),
        _Latent.safe: ("safe", "safety", "harmless", "harmlessness"),
        _Latent.humour: ("humour", "humor", "funny"),
    }.items()
    for name in names
}


def _logistic(z: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-z)))


def save_task(path: str | Path, task: TaskTable) -> None:
    """Write ``task`` as .npz or as long-format .csv; :func:`read_task` reads it exactly.

    Raises:
        InputError: another ending.
        WorkError: the file cannot be written.
    """
    from palm_core.model.files import write_atomically

    file = Path(path)
    if file.suffix.lower() == ".npz":
        content = io.BytesIO()
        np.savez_compressed(
            content,
            rewards=task.rewards,
            reference=task.reference,
            objectives=np.array(task.objectives),
        )
        write_atomically(file, content.getvalue())
    elif file.suffix.lower() == ".csv":
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*COLUMNS, *task.objectives])
        for x, (prompt, reference) in enumerate(zip(task.rewards, task.reference, strict=True)):
            for y, (row, p) in enumerate(zip(prompt.tolist(), reference.tolist(), strict=True)):
                writer.writerow([x, y, p, *row])
        write_atomically(file, text.getvalue().encode())
    else:
        raise InputError(f"{file}: must end in .npz or .csv")


def read_task(path: str | Path, objectives: Sequence[str] | None = None) -> TaskTable:
    """Read a task table.

    Either .npz with arrays ``rewards`` (n_prompts, n_responses, d), ``reference``
    (n_prompts, n_responses) and, if named, ``objectives`` (d,); or any long
    table that :func:`palm_core.tables.read.read_table` reads, with the columns
    ``prompt``, ``response``, ``reference`` (a probability) and one column per
    objective. In a long table prompts may have different numbers of responses.

    Args:
        path: the file.
        objectives: which objectives, in which order; ``None`` takes all.

    Raises:
        InputError: one line that names the file and what is wrong in it.
    """
    file = Path(path)
    if is_folder(file):
        raise InputError(f"{one_line(file)}: is a folder, must be a file")
    if isinstance(objectives, str):
        raise InputError(f"objectives = {objectives!r}: must be a list of names")
    if file.suffix.lower() == ".npz":
        return parse_npz(read_bounded(file, LARGEST_FILE), one_line(file), objectives)
    from palm_core.tables.read import read_table

    return task_of_table(read_table(file), objectives)


def task_of_table(table: Table, objectives: Sequence[str] | None = None) -> TaskTable:
    """Convert a long table to a task table; see :func:`read_task`."""
    file = table.source
    wanted = list(objectives or (name for name in table.columns if name not in COLUMNS))
    for name in (*COLUMNS, *wanted):
        if name not in table.columns:
            raise InputError(
                f"{file}: no column {name!r}; a task table has the columns "
                f"{', '.join(COLUMNS)} and one per objective"
            )
    if table.n_rows == 0:
        raise InputError(f"{file}: has no responses, must have at least one")
    if len(wanted) < 2:
        raise InputError(f"{file}: at least 2 objectives are needed, got {len(wanted)}")
    # assign row and column to every (prompt, response)
    prompts: dict[Any, dict[Any, int]] = {}
    place = np.empty((table.n_rows, 2), dtype=np.intp)
    order: dict[Any, int] = {}
    labels = zip(table.columns["prompt"], table.columns["response"], strict=True)
    for index, (prompt, response) in enumerate(labels):
        responses = prompts.setdefault(prompt, {})
        if response in responses:
            raise InputError(f"{file}: prompt {prompt!r}: duplicate response {response!r}")
        responses[response] = len(responses)
        place[index] = order.setdefault(prompt, len(order)), responses[response]
    shape = (len(prompts), max(map(len, prompts.values())))
    if shape[0] * shape[1] * len(wanted) > min(LARGEST_TABLE, LARGEST_LONG_TABLE):
        raise InputError(
            f"{file}: {shape[0]} prompts × {shape[1]} responses × {len(wanted)} objectives: "
            f"must hold at most {min(LARGEST_TABLE, LARGEST_LONG_TABLE)} rewards"
        )
    # missing responses of a prompt have probability 0
    reference, rewards = np.zeros(shape), np.zeros((*shape, len(wanted)))
    rows, columns = place.T
    reference[rows, columns] = table.numbers("reference")
    for i, name in enumerate(wanted):
        rewards[rows, columns, i] = table.numbers(name)
    return _table(file, rewards, reference, wanted, [str(prompt) for prompt in prompts])


def parse_npz(data: bytes, file: str, objectives: Sequence[str] | None = None) -> TaskTable:
    """Parse a task table from the bytes of an .npz file; see :func:`read_task`."""
    limit = f"{LARGEST_TABLE} rewards"
    arrays = read_npz(data, file, 9 * LARGEST_TABLE, limit=limit)
    for name in ("rewards", "reference"):
        if name not in arrays:
            found = one_line(", ".join(map(repr, arrays)) or "none")
            raise InputError(f"{file}: no array {name!r}; its arrays: {found}")
    rewards, reference = arrays["rewards"], arrays["reference"]
    stored = [str(n) for n in arrays["objectives"].ravel()] if "objectives" in arrays else None
    if objectives is not None and stored is not None:
        absent = [name for name in objectives if name not in stored]
        if absent:
            raise InputError(one_line(f"{file}: no objective {absent[0]!r}; it has {stored}"))
        if rewards.ndim == 3 and rewards.shape[2] == len(stored):
            rewards = rewards[..., [stored.index(name) for name in objectives]]
            stored = list(objectives)
    return _table(file, rewards, reference, stored or objectives, None)


def _table(
    file: str,
    rewards: ArrayLike,
    reference: ArrayLike,
    objectives: Sequence[str] | None,
    prompts: Sequence[str] | None,
) -> TaskTable:
    try:
        return TaskTable(rewards, reference, objectives, prompts=prompts)
    except InputError as error:
        raise InputError(one_line(f"{file}: {error}")) from None


def _numbers(given: ArrayLike, name: str, axes: tuple[str, ...]) -> NDArray[np.float64]:
    wanted = f"({', '.join(axes)})"
    try:
        raw = np.asarray(given)
        if raw.dtype.kind not in "fiu":
            raise TypeError(f"got {raw.dtype}")
        array = np.array(raw, dtype=np.float64, order="C")
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: must be numbers in an array {wanted}: {error}") from error
    if array.ndim != len(axes) or 0 in array.shape:
        raise InputError(f"{name}: must have shape {wanted}, has {array.shape}")
    bad = ~(np.abs(array) <= LARGEST_REWARD)
    if bad.any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        place = ", ".join(map(str, index))
        raise InputError(f"{name}[{place}] = {array[index]}: must be a finite number below 1e300")
    return array


def _objectives(given: Sequence[str] | None, d: int) -> tuple[str, ...]:
    if given is None:
        return tuple(f"objective {i + 1}" for i in range(d))
    names = tuple(given)
    if not all(isinstance(name, str) and name for name in names):
        raise InputError(f"objectives = {names!r}: must be names")
    if not all(map(is_plain, names)):
        unfit = next(name for name in names if not is_plain(name))
        raise InputError(f"objectives: {unfit!r} has characters that cannot be shown in a name")
    if len(names) != d:
        raise InputError(f"objectives: has {len(names)} names, must have {d}")
    if len(set(names)) != d:
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"objectives: duplicate name {twice!r}, every name must be unique")
    return names
