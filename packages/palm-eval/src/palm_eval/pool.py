"""All policies that are measured together, each once, in one space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from palm_core import Normalization, PolicySet
from palm_core.collecting import same_or_new

if TYPE_CHECKING:
    from collections.abc import Iterable

    from palm_core import Policy


@dataclass(frozen=True, eq=False)
class Pool:
    """The policies of runs and baselines, measured against one another.

    Gaps against other candidates, or in other units, cannot be compared: so there is one
    pool for all that stands in one table.

    Args:
        policies: Π, each once.
        candidates: the same in the space that weights speak of.
        space: from the oracle's units to that space.
    """

    policies: tuple[Policy, ...]
    candidates: PolicySet
    space: Normalization

    @classmethod
    def of(cls, policies: Iterable[Policy], objectives: tuple[str, ...], method: str) -> Pool:
        """Pool ``policies``, which may repeat; "minmax" scales over all of them.

        Raises:
            OracleAnswerError: an id that means two policies.
            InputError: an unknown method, or an objective that "minmax" cannot scale.
        """
        once = distinct(policies)
        raw = PolicySet.from_policies(once, objectives)
        space = Normalization.fit(raw, method, over=f"{len(raw)} policies")
        return cls(tuple(once), space.apply(raw), space)

    def places(self, policies: Iterable[Policy]) -> list[int]:
        """Where ``policies`` stand in the pool, each once, in their order."""
        place = {policy.id: index for index, policy in enumerate(self.policies)}
        return list(dict.fromkeys(place[policy.id] for policy in policies))

    @property
    def normalization(self) -> str:
        """The space in a word: "none", or "minmax" over how many policies."""
        method = self.space.method
        return method if method == "none" else f"{method} over {self.space.over}"


def distinct(policies: Iterable[Policy]) -> list[Policy]:
    """Each policy once; an id that means two policies is refused, not mixed up.

    Raises:
        OracleAnswerError: the same id with other rewards.
    """
    found: dict[str, Policy] = {}
    for policy in policies:
        same_or_new(policy, found)
    return list(found.values())


def each_weight(policies: Iterable[Policy]) -> list[Policy]:
    """Each policy once for each weight vector that it answered.

    Raises:
        OracleAnswerError: the same id with other rewards.
    """
    found: dict[str, Policy] = {}
    once: dict[tuple[str, bytes], Policy] = {}
    for policy in policies:
        same_or_new(policy, found)
        once.setdefault((policy.id, policy.weights.tobytes()), policy)
    return list(once.values())
