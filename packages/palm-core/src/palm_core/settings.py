"""What Algorithm 1 is run with, in one place: library, task files and ledgers agree."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from palm_core._exact import rounded_down, tolerance
from palm_core.errors import InputError
from palm_core.grid import ALPHA_HINT, MU_HINT
from palm_core.normalization import NORMALIZATIONS
from palm_core.simplex import check_count, check_number
from palm_core.text import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

TARGET_HINT = "0.01 means within 1 % of the best there is"
#: Covers of the weights asked, and of all weights.
COVERS = ("greedy", "exact")
METHODS = ("minimal", *COVERS)
#: μ' of "minimal" on a grid, unless given: it has no grid to take its tolerance from.
MINIMAL_MU = 0.05
SOLVERS = ("cbc", "highs")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a run asks and how it prunes, checked; a grid or adaptive, one of the two.

    Args:
        mu: the grid's multiplicative step μ in (0, 1].
        alpha: the grid's additive threshold α in (0, 1].
        target_epsilon: ask adaptively until the portfolio is certified to this gap in
            (0, 1]; where ``prune_mu`` is no smaller, until all policies found are.
        max_calls: stop asking adaptively after so many calls; ``None`` for no limit.
        prune_mu: μ' in [0, 1]. ``None`` takes μ for the covers "greedy" and "exact", as
            Algorithm 1 does, and 0.05 for "minimal"; adaptively, what the calls have left of
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
        check_choice(self.normalize, NORMALIZATIONS, name="normalize")
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
        """The gap to certify by calls, so that pruning keeps within the target too.

        (1 − calls)(1 − pruning) = 1 − target, by halves unless ``prune_mu`` says what
        pruning takes. Where that is more than the target, the target is for the calls.
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
        """The settings as the tables of a task: ``[grid]`` or ``[adaptive]``, and ``[prune]``."""
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
        """The settings that :meth:`tables` wrote.

        Raises:
            InputError: an entry is missing or not acceptable.
        """
        try:
            prune = dict(tables["prune"])
            asked = tables["adaptive"] if "adaptive" in tables else tables["grid"]
            return cls(prune_mu=prune.pop("mu"), prune_alpha=prune.pop("alpha"), **asked, **prune)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"the stored task cannot be read: {error}") from error


def check_choice(value: object, accepted: tuple[str, ...], *, name: str) -> str:
    """Return ``value`` if it is one of ``accepted``, or raise :class:`InputError`."""
    if isinstance(value, str) and value in accepted:
        return value
    near = did_you_mean(str(value), accepted)
    raise InputError(f"{name} = {value!r}: must be one of {', '.join(accepted)}{near}")


def share_left(target: float, used: float) -> float:
    """The largest share x with (1 − used)(1 − x) ≥ 1 − target; ``used`` is below 1."""
    left = 1 - (1 - tolerance(target)) / (1 - tolerance(used))
    return max(0.0, rounded_down(left))
