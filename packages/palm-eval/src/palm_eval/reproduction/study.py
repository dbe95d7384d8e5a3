"""What a task's ``[study]`` says: how it is compared as in section 4 of the paper.

```toml
[study]
title = "Safety Alignment"
grids = [["14/30", "7/100"], ["16/30", "7/100"]]  # (μ, α) of each run; by default [grid]'s
sizes = [2, 3, 4, 5]                              # of the portfolios in Tables 1 and 3
mus = [0.005]                                     # further μ' than the usual
weights = 100                                     # |V|, drawn from Dirichlet(1)
random = 3                                        # runs of the random baseline
ask = true                                        # find the best policy at each of V, too
published = "safety-alignment"                    # whose numbers are set beside
prompt = 3                                        # whose answers Table 2 shows, from 0
```
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from palm_core import InputError, construct_grid, sample_weights
from palm_core.simplex import check_count, check_number
from palm_core.text import one_line, read_number
from palm_eval.baselines import RANDOM_RUNS
from palm_eval.comparison.comparable import baseline_weights
from palm_eval.reproduction.published import PUBLISHED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from palm_core.task import Task

    Array = NDArray[np.float64]

_KEYS = ("title", "grids", "sizes", "mus", "weights", "random", "ask", "published", "prompt")
SIZES = [2, 3, 4, 5]
SAMPLES = 100


@dataclass(frozen=True, kw_only=True)
class Study:
    """How a task is compared.

    Args:
        title: of the task.
        grids: (μ, α) of each run, at least one.
        sizes: of portfolios, ascending.
        mus: further μ' to prune with.
        weights: |V|.
        random: runs of the random baseline.
        ask: whether the oracle is asked at V, so that opt is what it finds there.
        published: which of the paper's tasks it is, or is a miniature of; or ``None``.
        prompt: the number of the prompt whose answers are shown; ``None`` takes the one that
            is answered most differently.
        seed: of V and the baselines.
    """

    title: str
    grids: tuple[tuple[float, float], ...]
    sizes: tuple[int, ...] = tuple(SIZES)
    mus: tuple[float, ...] = ()
    weights: int = SAMPLES
    random: int = RANDOM_RUNS
    ask: bool = True
    published: str | None = None
    prompt: int | None = None
    seed: int = 0

    def grid(self, number: int, n_objectives: int) -> Array:
        """The weights (k, d) of a run."""
        return construct_grid(n_objectives, *self.grids[number])

    def sampled(self, n_objectives: int) -> Array:
        """V (k, d)."""
        return sample_weights(self.weights, n_objectives, seed=self.seed)

    def run_names(self) -> tuple[str, ...]:
        """What each run is called in tables."""
        return tuple(f"μ {mu:.4g}, α {alpha:.4g}" for mu, alpha in self.grids)

    def everything(self, n_objectives: int) -> dict[str, Array]:
        """All weights that the study asks, by what they are for.

        Raises:
            InputError: a grid too large, or sizes beyond what the runs ask.
        """
        wanted = {
            name: self.grid(number, n_objectives) for number, name in enumerate(self.run_names())
        }
        calls = sorted({len(rows) for rows in wanted.values()})
        if self.sizes and self.sizes[-1] > calls[-1]:
            raise InputError(
                f"[study] sizes = {self.sizes[-1]}: must be at most {calls[-1]}, the oracle calls "
                "of the largest grid"
            )
        if self.ask:
            wanted["V"] = self.sampled(n_objectives)
        baselines = baseline_weights(self.sizes, calls, n_objectives, self.seed, self.random)
        wanted |= {" ".join(map(str, key)): rows for key, rows in baselines.items()}
        return wanted


def study_of(task: Task, name: str) -> Study:
    """Read the study of a task.

    Args:
        task: as it was read.
        name: what the task is called where it has no title.

    Raises:
        InputError: an entry of ``[study]`` that is unknown or not acceptable; a task
            without a grid.
    """
    given = task.study
    for key in given:
        if key not in _KEYS:
            raise InputError(f"[study] {key}: unknown key; must be one of {', '.join(_KEYS)}")
    settings = task.settings
    if "grids" not in given and settings.target_epsilon is not None:
        raise InputError("[study] grids: is missing, must be a list of [mu, alpha]")
    published = given.get("published")
    if published is not None and published not in PUBLISHED:
        raise InputError(
            f"[study] published = {published!r}: must be one of {', '.join(map(repr, PUBLISHED))}"
        )
    title = given.get("title", name)
    if not isinstance(title, str) or not title:
        raise InputError(f"[study] title = {title!r}: must be text")
    ask = given.get("ask", True)
    if not isinstance(ask, bool):
        raise InputError(f"[study] ask = {ask!r}: must be true or false")
    prompt = given.get("prompt")
    grids = given.get("grids", [[settings.mu, settings.alpha]])
    sizes = _list(given.get("sizes", SIZES), "sizes")
    return Study(
        title=title,
        grids=tuple(_grid(pair, number) for number, pair in enumerate(_list(grids, "grids"))),
        sizes=tuple(sorted({check_count(size, name="[study] sizes", least=1) for size in sizes})),
        mus=tuple(
            check_number(mu, name="[study] mus", least=0.0, most=1.0)
            for mu in _list(given.get("mus", []), "mus")
        ),
        weights=check_count(given.get("weights", SAMPLES), name="[study] weights", least=1),
        random=check_count(given.get("random", RANDOM_RUNS), name="[study] random", least=1),
        ask=ask,
        published=published,
        prompt=None if prompt is None else check_count(prompt, name="[study] prompt", least=0),
        seed=task.seed,
    )


def _list(value: object, key: str) -> Sequence[Any]:
    if not isinstance(value, list):
        raise InputError(f"[study] {key} = {one_line(repr(value), 80)}: must be a list")
    if key == "grids" and not value:
        raise InputError("[study] grids = []: must have at least one [mu, alpha]")
    return value


def _grid(pair: object, number: int) -> tuple[float, float]:
    where = f"[study] grids[{number}]"
    if not isinstance(pair, list) or len(pair) != 2:
        raise InputError(f"{where} = {one_line(repr(pair), 80)}: must be [mu, alpha]")
    return _share(pair[0], f"{where} mu"), _share(pair[1], f"{where} alpha")


def _share(value: object, name: str) -> float:
    if isinstance(value, str):  # as the paper writes them
        try:
            value = read_number(value)
        except (ValueError, ZeroDivisionError):
            raise InputError(f"{name} = {value!r}: must be a number or a fraction") from None
    return check_number(value, name=name, above=0.0, most=1.0)


def distinct_weights(wanted: Mapping[str, Array]) -> Array:
    """All rows, each once, in the order in which they are needed."""
    rows = np.concatenate(list(wanted.values()))
    _, first = np.unique(np.round(rows, 9), axis=0, return_index=True)
    return rows[np.sort(first)]
