"""What ``portfolio.json`` holds, declared once: validation and JSON Schema follow.

The schema is published in the package as ``portfolio.schema.json``. Additions
keep the version; a change that an older reader would misunderstand raises it.
"""

from __future__ import annotations

import inspect
import math
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
import numpy as np
from msgspec import Meta, Struct

from palm_core.policies import Policy

if TYPE_CHECKING:
    from palm_core.certificate import Certificate
    from palm_core.exact_gaps import Gaps
    from palm_core.normalization import Normalization

FORMAT: Final = "palm-portfolio"
VERSION: Final = 1
#: How deep ``task`` and ``info`` may be nested: no deeper than can be written again.
DEEPEST: Final = 64

Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Amount = Annotated[float, Meta(ge=0.0)]
Count = Annotated[int, Meta(ge=0)]


class NormalizationRecord(Struct, kw_only=True, frozen=True):
    """See :class:`palm_core.normalization.Normalization`."""

    method: Literal["minmax", "none"]
    lower: list[float]
    upper: list[float]
    over: str = ""


class PolicyRecord(Struct, kw_only=True, frozen=True):
    """One policy of the portfolio, in raw units; per-prompt rewards stay in the run."""

    id: str
    weights: list[Share]
    rewards: list[float]
    regularizer: Amount = 0.0
    reward_errors: list[Amount] | None = None
    artifact: str | None = None
    info: dict[str, Any] = {}


class PruningRecord(Struct, kw_only=True, frozen=True):
    """How the cover was found and how near to minimal it is proven to be.

    ``everywhere``: it covers the whole simplex, not only the ``weights`` asked.
    """

    mu: Share
    alpha: Amount
    method: str
    everywhere: bool = False
    status: str
    lower_bound: Count
    upper_bound: Count
    solver: str
    weights: Count
    negative_optima: Count = 0


class GapsRecord(Struct, kw_only=True, frozen=True):
    """Exact suprema over the simplex against all policies that were evaluated.

    ``epsilon`` is null where the multiplicative gap is not finite (opt_w ≤ 0).
    """

    epsilon: Amount | None
    delta: Amount
    epsilon_weights: list[Share] | None
    delta_weights: list[Share]


class TheoremRecord(Struct, kw_only=True, frozen=True):
    """Theorem 3.4 for this grid: both pairs, or why it does not apply."""

    applies: bool
    statement: str
    epsilon: Amount | None = None
    delta: Amount | None = None
    sharper_epsilon: Amount | None = None
    sharper_delta: Amount | None = None
    bounds_measured: bool = False


class SlackRecord(Struct, kw_only=True, frozen=True):
    """Oracle slack: what the oracle claims, and what the run proves it has at least.

    ``measured`` is max_k [max_j J_{w_k}(π_j) − J_{w_k}(π_k)]: another policy of
    the run beats the answer at its own weight by that much.
    """

    claimed_epsilon: Share = 0.0
    claimed_delta: Amount = 0.0
    measured: Amount = 0.0
    measured_at: str | None = None


class CertificateRecord(Struct, kw_only=True, frozen=True):
    """An upper bound on the gap against every policy at every weight.

    ``epsilon`` is null where none is certified; ``note`` says why. ``exact``: no less
    follows from the answers. ``stopped``: why an adaptive run stopped asking.
    """

    epsilon: Amount | None
    delta: Amount
    epsilon_weights: list[Share] | None = None
    delta_weights: list[Share] | None = None
    conditional_on: str | None = None
    exact: bool = True
    note: str = ""
    statement: str = ""
    stopped: Literal["target", "slack", "calls", "failures"] | None = None


class MissingRecord(Struct, kw_only=True, frozen=True):
    """A weight vector that has no answer: the oracle failed there at every attempt."""

    weights: list[Share]
    attempts: Count
    kind: str
    message: str


class PortfolioDocument(Struct, kw_only=True, frozen=True):
    """The whole of ``portfolio.json``."""

    format: Literal["palm-portfolio"] = FORMAT
    version: Annotated[int, Meta(ge=1, le=VERSION)] = VERSION
    objectives: Annotated[list[str], Meta(min_length=2)]
    normalization: NormalizationRecord
    policies: Annotated[list[PolicyRecord], Meta(min_length=1)]
    oracle_calls: Count
    candidates: Count
    slack: SlackRecord = SlackRecord()
    pruning: PruningRecord | None = None
    gaps: GapsRecord | None = None
    theorem: TheoremRecord | None = None
    certificate: CertificateRecord | None = None
    missing: list[MissingRecord] = []
    task: dict[str, Any] | None = None
    task_hash: str | None = None
    made_with: dict[str, str] = {}


def too_deep(values: list[Any]) -> bool:
    """Whether any of ``values`` is nested more than :data:`DEEPEST` deep."""
    level = values
    for _ in range(DEEPEST):
        inner = (node.values() if isinstance(node, dict) else node for node in level)
        level = [x for values in inner if values for x in values if isinstance(x, (dict, list))]
        if not level:
            return False
    return True


def portfolio_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of ``portfolio.json``."""
    schema = msgspec.json.schema(PortfolioDocument)
    for declared in schema["$defs"].values():
        if "description" in declared:  # a docstring; Python 3.13 takes its indentation away
            declared["description"] = inspect.cleandoc(declared["description"])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "PALM portfolio",
        **schema,
    }


def record_of_normalization(given: Normalization) -> NormalizationRecord:
    """Return what is written of a normalisation."""
    return NormalizationRecord(
        method=given.method, lower=list(given.lower), upper=list(given.upper), over=given.over
    )


def record_of_policy(policy: Policy) -> PolicyRecord:
    """Return what is written of a policy; per-prompt arrays are left to the ledger."""
    errors = policy.reward_errors
    return PolicyRecord(
        id=policy.id,
        weights=np.asarray(policy.weights, dtype=float).tolist(),
        rewards=np.asarray(policy.rewards, dtype=float).tolist(),
        regularizer=float(policy.regularizer),
        reward_errors=None if errors is None else np.asarray(errors, dtype=float).tolist(),
        artifact=policy.artifact,
        info=dict(policy.info),
    )


def policy_from_record(record: PolicyRecord, **per_prompt: Any) -> Policy:
    """Return the policy that was written; ``per_prompt`` arrays are passed on."""
    errors = record.reward_errors
    return Policy(
        id=record.id,
        weights=np.array(record.weights),
        rewards=np.array(record.rewards),
        regularizer=record.regularizer,
        reward_errors=None if errors is None else np.array(errors),
        artifact=record.artifact,
        info=record.info,
        **per_prompt,
    )


def record_of_gaps(gaps: Gaps) -> GapsRecord:
    """Return what is written of exact gaps; an infinite ε is written as null."""
    finite = math.isfinite(gaps.epsilon)
    return GapsRecord(
        epsilon=gaps.epsilon if finite else None,
        delta=gaps.delta,
        epsilon_weights=gaps.epsilon_weights.tolist() if finite else None,
        delta_weights=gaps.delta_weights.tolist(),
    )


def record_of_certificate(found: Certificate, stopped: str | None = None) -> CertificateRecord:
    """Return what is written of a certificate; an infinite ε is written as null."""
    finite = math.isfinite(found.epsilon)
    return msgspec.convert(
        {
            "epsilon": found.epsilon if finite else None,
            "delta": found.delta,
            "epsilon_weights": found.epsilon_weights.tolist() if finite else None,
            "delta_weights": found.delta_weights.tolist(),
            "conditional_on": found.conditional_on,
            "exact": found.exact,
            "note": found.note,
            "statement": str(found),
            "stopped": stopped,
        },
        CertificateRecord,
    )
