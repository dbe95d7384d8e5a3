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
    """Objective i becomes (u_i − lower_i)/(upper_i − lower_i); weights are of those values."""

    method: Annotated[
        Literal["minmax", "none"], Meta(description="none: values are as they were (0 and 1)")
    ]
    lower: Annotated[list[float], Meta(description="d values, in units of each objective")]
    upper: Annotated[list[float], Meta(description="d values above `lower`")]
    over: Annotated[str, Meta(description="the policies the limits were taken over, in words")] = ""


class PolicyRecord(Struct, kw_only=True, frozen=True):
    """One policy of the portfolio, in raw units; per-prompt rewards stay in the run."""

    id: Annotated[str, Meta(description="its name, unique in the file")]
    weights: Annotated[list[Share], Meta(description="d: the weight vector the oracle was asked")]
    rewards: Annotated[list[float], Meta(description="d: mean rewards, higher is better")]
    regularizer: Annotated[Amount, Meta(description="f(π), in units of reward")] = 0.0
    reward_errors: Annotated[
        list[Amount] | None, Meta(description="d: standard errors of `rewards`")
    ] = None
    artifact: Annotated[
        str | None, Meta(description="the model: a path inside the run, another path or a URI")
    ] = None
    info: Annotated[dict[str, Any], Meta(description="what else the oracle told")] = {}


class PruningRecord(Struct, kw_only=True, frozen=True):
    """How the cover was found and how near to minimal it is proven to be."""

    mu: Annotated[Share, Meta(description="μ′: the share of the best value that may be lost")]
    alpha: Annotated[Amount, Meta(description="α′: what may be lost besides, in units of reward")]
    method: Annotated[str, Meta(description="how policies were chosen, as in the task file")]
    everywhere: Annotated[
        bool, Meta(description="the whole simplex is covered, not only the weights asked")
    ] = False
    status: Annotated[str, Meta(description="optimal: no fewer policies do (proven); or feasible")]
    lower_bound: Annotated[Count, Meta(description="no fewer policies than this do (proven)")]
    upper_bound: Annotated[Count, Meta(description="so many policies do")]
    solver: Annotated[str, Meta(description="what found the smallest number")]
    weights: Annotated[Count, Meta(description="how many weights were asked")]
    negative_optima: Annotated[
        Count, Meta(description="weights where the best value is negative: only α′ counts there")
    ] = 0


class GapsRecord(Struct, kw_only=True, frozen=True):
    """Exact suprema over the simplex against all policies that were evaluated."""

    epsilon: Annotated[
        Amount | None,
        Meta(description="multiplicative gap; null where opt_w ≤ 0 makes it infinite"),
    ]
    delta: Annotated[Amount, Meta(description="additive gap, in units of reward")]
    epsilon_weights: Annotated[
        list[Share] | None, Meta(description="d: a weight vector where it is attained")
    ]
    delta_weights: Annotated[
        list[Share], Meta(description="d: a weight vector where it is attained")
    ]


class TheoremRecord(Struct, kw_only=True, frozen=True):
    """Theorem 3.4 for this grid: both pairs, or why it does not apply."""

    applies: Annotated[bool, Meta(description="all of its assumptions hold")]
    statement: Annotated[str, Meta(description="what it says here, in words")]
    epsilon: Annotated[Amount | None, Meta(description="the paper's ε")] = None
    delta: Annotated[Amount | None, Meta(description="the paper's δ, in units of reward")] = None
    sharper_epsilon: Annotated[Amount | None, Meta(description="ε of the sharper pair")] = None
    sharper_delta: Annotated[Amount | None, Meta(description="δ of the sharper pair")] = None
    bounds_measured: Annotated[
        bool, Meta(description="what it was computed from is of the evaluated policies only")
    ] = False


class SlackRecord(Struct, kw_only=True, frozen=True):
    """Oracle slack: what the oracle claims, and what the run proves it has at least."""

    claimed_epsilon: Annotated[Share, Meta(description="the oracle's ε_o")] = 0.0
    claimed_delta: Annotated[Amount, Meta(description="the oracle's δ_o, in units of reward")] = 0.0
    claimed: Annotated[
        bool, Meta(description="the oracle claims these two; otherwise exact answers are assumed")
    ] = False
    refuted: Annotated[
        bool, Meta(description="the answers show more slack than the oracle claims")
    ] = False
    measured: Annotated[
        Amount, Meta(description="max_k [max_j J_{w_k}(π_j) − J_{w_k}(π_k)], in units of reward")
    ] = 0.0
    measured_at: Annotated[
        str | None, Meta(description="whose answer another policy beats by that much")
    ] = None


class CertificateRecord(Struct, kw_only=True, frozen=True):
    """An upper bound on the gap against every policy at every weight."""

    epsilon: Annotated[
        Amount | None, Meta(description="multiplicative gap; null where `note` says why")
    ]
    delta: Annotated[Amount, Meta(description="additive gap, in units of reward")]
    epsilon_weights: Annotated[
        list[Share] | None, Meta(description="d: where it may be largest")
    ] = None
    delta_weights: Annotated[list[Share] | None, Meta(description="d: where it may be largest")] = (
        None
    )
    conditional_on: Annotated[
        str | None, Meta(description="what it rests on beside the evaluated rewards, in words")
    ] = None
    refuted: Annotated[
        bool,
        Meta(description="an answer is worse than is claimed, or assumed without a claim"),
    ] = False
    exact: Annotated[bool, Meta(description="no less follows from the answers")] = True
    note: Annotated[str, Meta(description="why no ε is certified")] = ""
    statement: Annotated[str, Meta(description="all of it in words")] = ""
    stopped: Annotated[
        Literal["target", "slack", "negative", "calls", "failures"] | None,
        Meta(description="why an adaptive run stopped asking"),
    ] = None


class MissingRecord(Struct, kw_only=True, frozen=True):
    """A weight vector that has no answer: the oracle failed there at every attempt."""

    weights: Annotated[list[Share], Meta(description="d: the weight vector")]
    attempts: Annotated[Count, Meta(description="how often it was tried")]
    kind: Annotated[
        str, Meta(description="how the last failed: raised, refused, timeout, memory, died or lost")
    ]
    message: Annotated[str, Meta(description="what the last said, one line")]


class PortfolioDocument(Struct, kw_only=True, frozen=True):
    """The whole of ``portfolio.json``."""

    format: Annotated[Literal["palm-portfolio"], Meta(description="what this is")] = FORMAT
    version: Annotated[
        int, Meta(ge=1, le=VERSION, description="raised by what older readers would misread")
    ] = VERSION
    objectives: Annotated[list[str], Meta(min_length=2, description="d names")]
    normalization: NormalizationRecord
    policies: Annotated[
        list[PolicyRecord], Meta(min_length=1, description="in the order they were chosen")
    ]
    oracle_calls: Annotated[Count, Meta(description="oracle calls that the run has made")]
    candidates: Annotated[Count, Meta(description="distinct policies it was chosen from")]
    slack: SlackRecord = SlackRecord()
    pruning: PruningRecord | None = None
    gaps: GapsRecord | None = None
    theorem: TheoremRecord | None = None
    certificate: CertificateRecord | None = None
    missing: Annotated[
        list[MissingRecord], Meta(description="weights without an answer; guarantees do without")
    ] = []
    task: Annotated[
        dict[str, Any] | None, Meta(description="the task as it was resolved, options and all")
    ] = None
    task_hash: Annotated[str | None, Meta(description="SHA-256 of `task`, as JSON")] = None
    made_with: Annotated[dict[str, str], Meta(description="package → version")] = {}


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
            "epsilon_weights": found.epsilon_weights.tolist(),
            "delta_weights": found.delta_weights.tolist(),
            "conditional_on": found.conditional_on,
            "refuted": found.refuted,
            "exact": found.exact,
            "note": found.note,
            "statement": str(found),
            "stopped": stopped,
        },
        CertificateRecord,
    )
