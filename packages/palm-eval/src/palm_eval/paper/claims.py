"""Claims and numbers of the paper's experiments, checked against the paper and new results.

Kim et al., *Many Preferences, Few Policies*, section 4: Tables 1, 3, 4, 5 and 6 are in
``published.toml``. The same claims are checked on new results and on the paper's numbers.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from palm_eval.comparison import Comparison

#: The paper's tasks.
PUBLISHED = ("rlvr-gsm", "safety-alignment", "helpful-assistants")
_RIVALS = ("palm", "uniform", "random")
Pair = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Pruning:
    """A row of Tables 5 and 6; ``mu`` and ``alpha`` as printed."""

    mu: str
    alpha: str
    oracle_calls: int
    prune_mu: float
    size: int
    epsilon: float
    delta: float


@dataclass(frozen=True, kw_only=True)
class Published:
    """The paper's numbers for a task.

    Args:
        title: of the task.
        quality: size → method → (ε, δ): Table 1.
        perplexity: size → method → perplexity of the usage: Table 3.
        budgets: oracle calls → method → (ε, δ), methods "palm" and "uniform_palm": Table 4.
        prunings: Tables 5 and 6.
    """

    title: str
    quality: dict[int, dict[str, Pair]]
    perplexity: dict[int, dict[str, float]]
    budgets: dict[int, dict[str, Pair]]
    prunings: tuple[Pruning, ...]


def published(name: str) -> Published:
    """The paper's numbers for one of :data:`PUBLISHED`.

    Example:
        >>> published("safety-alignment").quality[5]["palm"]
        (0.0131, 0.0076)
    """
    table = _tables()[name]
    return Published(
        title=table["title"],
        quality={
            size: dict(zip(_RIVALS, map(tuple, pairs), strict=True))
            for size, *pairs in table["table_1"]
        },
        perplexity={
            size: dict(zip(_RIVALS, values, strict=True)) for size, *values in table["table_3"]
        },
        budgets={
            calls: {"palm": tuple(palm), "uniform_palm": tuple(uniform)}
            for calls, palm, uniform in table["table_4"]
        },
        prunings=tuple(
            Pruning(
                mu=mu,
                alpha=alpha,
                oracle_calls=calls,
                prune_mu=prune_mu,
                size=size,
                epsilon=epsilon,
                delta=delta,
            )
            for mu, alpha, calls, prune_mu, size, epsilon, delta in table["prunings"]
        ),
    )


@cache
def _tables() -> dict[str, Any]:
    text = files("palm_eval.paper").joinpath("published.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


#: "fewer than seven policies … less than 1.5 % suboptimality"
MOST_POLICIES, LEAST_GAP = 7, 0.015
# Numbers that print alike are equal: four digits, as in the paper.
_DIGITS = 4
_BASELINE_TITLES = {"uniform": "Uniform", "random": "Random"}
_GAPS = ("ε", "δ")


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The numbers on which claims are checked.

    Args:
        quality: size → "palm", "uniform", "random" → (ε, δ).
        perplexity: size → the same → perplexity of the usage.
        budgets: oracle calls → "palm", "uniform_palm" → (ε, δ).
        prunings: (size, ε) of every pruning of PALM's runs, including other sizes.
    """

    quality: Mapping[int, Mapping[str, Pair]]
    perplexity: Mapping[int, Mapping[str, float]]
    budgets: Mapping[int, Mapping[str, Pair]]
    prunings: tuple[tuple[int, float], ...] = ()

    @classmethod
    def of(cls, found: Comparison) -> Numbers:
        """The numbers of a comparison."""
        methods = {name: found.methods[name] for name in ("palm", *_BASELINE_TITLES)}
        by_size = {
            size: {name: rows[size] for name, rows in methods.items() if size in rows}
            for size in found.sizes
        }
        return cls(
            quality={
                size: {name: one.quality for name, one in rows.items()}
                for size, rows in by_size.items()
            },
            perplexity={
                size: {name: one.perplexity for name, one in rows.items()}
                for size, rows in by_size.items()
            },
            budgets={
                one.oracle_calls: {
                    "palm": one.palm.quality,
                    "uniform_palm": one.uniform_palm.quality,
                }
                for one in found.budgets
                if one.uniform_palm is not None
            },
            prunings=tuple(
                (row.size, row.portfolio.epsilon) for sweep in found.sweeps for row in sweep.rows
            ),
        )

    @classmethod
    def printed(cls, paper: Published) -> Numbers:
        """The numbers of the paper."""
        return cls(
            quality=paper.quality,
            perplexity=paper.perplexity,
            budgets=paper.budgets,
            prunings=tuple((row.size, row.epsilon) for row in paper.prunings),
        )


@dataclass(frozen=True, kw_only=True)
class Check:
    """One comparison of two numbers that a claim implies."""

    what: str
    holds: bool


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A claim and its checks.

    Args:
        key: of the claim, see :data:`CLAIMS`.
        checks: all comparisons that it implies; empty if there are no numbers to check.
    """

    key: str
    checks: tuple[Check, ...]

    @property
    def claim(self) -> str:
        """The claim in words."""
        return CLAIMS[self.key]

    @property
    def held(self) -> int:
        """Number of checks that hold."""
        return sum(one.holds for one in self.checks)

    @property
    def holds(self) -> bool | None:
        """Whether all checks hold; ``None`` if there are none."""
        return self.held == len(self.checks) if self.checks else None

    @property
    def exceptions(self) -> tuple[str, ...]:
        """Descriptions of the checks that fail."""
        return tuple(one.what for one in self.checks if not one.holds)


CLAIMS = {
    "uniform": "PALM is ahead of Uniform at equal size",
    "random": "PALM is ahead of Random at equal size",
    "monotone": "PALM's gaps do not grow with the portfolio",
    "usage": "PALM uses its policies more evenly than Uniform and Random (perplexity)",
    "budget": "PALM is ahead of Uniform-PALM at equal oracle calls",
    "few": f"At most {MOST_POLICIES} policies are less than {LEAST_GAP:.1%} suboptimal",
}


def verdicts(numbers: Numbers) -> dict[str, Verdict]:
    """Check every claim on ``numbers``.

    "Ahead" is a smaller or, to four digits, equal gap; ε and δ are checked separately.
    """
    found = {
        "uniform": _ahead(numbers, "uniform"),
        "random": _ahead(numbers, "random"),
        "monotone": _monotone(numbers),
        "usage": _usage(numbers),
        "budget": _budget(numbers),
        "few": _few(numbers),
    }
    return {key: Verdict(key=key, checks=tuple(checks)) for key, checks in found.items()}


def _ahead(numbers: Numbers, rival: str) -> Iterator[Check]:
    for size, rows in numbers.quality.items():
        if "palm" in rows and rival in rows:
            yield from _pairs(f"size {size}", rows["palm"], rows[rival], _BASELINE_TITLES[rival])


def _budget(numbers: Numbers) -> Iterator[Check]:
    for calls, rows in numbers.budgets.items():
        yield from _pairs(f"{calls} calls", rows["palm"], rows["uniform_palm"], "Uniform-PALM")


def _pairs(where: str, palm: Pair, other: Pair, rival: str) -> Iterator[Check]:
    for name, own, its in zip(_GAPS, palm, other, strict=True):
        yield Check(what=f"{where}: {name} {own:.4f}, {rival} {its:.4f}", holds=_at_most(own, its))


def _monotone(numbers: Numbers) -> Iterator[Check]:
    rows = [
        (size, rows["palm"]) for size, rows in sorted(numbers.quality.items()) if "palm" in rows
    ]
    for (size, before), (larger, after) in pairwise(rows):
        for name, was, now in zip(_GAPS, before, after, strict=True):
            yield Check(
                what=f"size {size} to {larger}: {name} {was:.4f} to {now:.4f}",
                holds=_at_most(now, was),
            )


def _usage(numbers: Numbers) -> Iterator[Check]:
    for size, rows in numbers.perplexity.items():
        if "palm" not in rows or size < 2:
            continue
        for rival, title in _BASELINE_TITLES.items():
            if rival in rows:
                yield Check(
                    what=f"size {size}: {rows['palm']:.4f}, {title} {rows[rival]:.4f}",
                    holds=_at_most(rows[rival], rows["palm"]),
                )


def _few(numbers: Numbers) -> Iterable[Check]:
    sizes = [(size, rows["palm"][0]) for size, rows in numbers.quality.items() if "palm" in rows]
    small = [
        (epsilon, size) for size, epsilon in (*sizes, *numbers.prunings) if size <= MOST_POLICIES
    ]
    if small:
        epsilon, size = min(small)
        yield Check(what=f"ε {epsilon:.4f} with {size} policies", holds=epsilon < LEAST_GAP)


def _at_most(one: float, other: float) -> bool:
    return round(one, _DIGITS) <= round(other, _DIGITS)
