"""What Algorithm 1 is run with, in one place: library, task files and ledgers agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from palm_core.errors import InputError
from palm_core.normalization import NORMALIZATIONS
from palm_core.simplex import check_number

if TYPE_CHECKING:
    from collections.abc import Mapping

MU_HINT = "0.5 means neighbouring weights differ by half"
ALPHA_HINT = "0.2 means weights below a fifth of the largest are treated alike"
METHODS = ("greedy", "exact")
SOLVERS = ("cbc", "highs")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The parameters of Algorithm 1 and of its pruning step, checked.

    Args:
        mu: the grid's multiplicative step μ in (0, 1].
        alpha: the grid's additive threshold α in (0, 1].
        prune_mu: μ' in [0, 1].
        prune_alpha: α' ≥ 0, in units of (normalised) reward.
        method: "greedy" or "exact", see :func:`palm_core.prune`.
        solver: "cbc" or "highs" for the integer program, ``None`` chooses.
        time_limit: seconds for the integer program.
        normalize: "none" or "minmax", see :class:`palm_core.Normalization`.

    Raises:
        InputError: a value outside its interval or an unknown name.
    """

    mu: float
    alpha: float
    prune_mu: float
    prune_alpha: float = 0.0
    method: str = "greedy"
    solver: str | None = None
    time_limit: float = 60.0
    normalize: str = "none"

    def __post_init__(self) -> None:
        check_number(self.mu, name="mu", above=0.0, most=1.0, hint=MU_HINT)
        check_number(self.alpha, name="alpha", above=0.0, most=1.0, hint=ALPHA_HINT)
        check_number(self.prune_mu, name="prune_mu", least=0.0, most=1.0)
        check_number(self.prune_alpha, name="prune_alpha", least=0.0)
        check_number(self.time_limit, name="time_limit", above=0.0)
        check_choice(self.method, METHODS, name="method")
        check_choice(self.normalize, NORMALIZATIONS, name="normalize")
        if self.solver is not None:
            check_choice(self.solver, SOLVERS, name="solver")

    def tables(self) -> dict[str, dict[str, Any]]:
        """The settings as the tables ``[grid]`` and ``[prune]`` of a task."""
        return {
            "grid": {"mu": self.mu, "alpha": self.alpha},
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
            grid, prune = tables["grid"], dict(tables["prune"])
            return cls(
                mu=grid["mu"],
                alpha=grid["alpha"],
                prune_mu=prune.pop("mu"),
                prune_alpha=prune.pop("alpha"),
                **prune,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"the stored task cannot be read: {error}") from error


def check_choice(value: object, accepted: tuple[str, ...], *, name: str) -> str:
    """Return ``value`` if it is one of ``accepted``, or raise :class:`InputError`."""
    if isinstance(value, str) and value in accepted:
        return value
    raise InputError(f"{name} = {value!r}: must be one of {', '.join(accepted)}")
