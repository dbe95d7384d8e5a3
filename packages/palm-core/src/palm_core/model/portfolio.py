"""Portfolios and ``portfolio.json``: records, JSON schema, reading, writing, routing."""

from __future__ import annotations

import inspect
import math
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, overload

import msgspec
import numpy as np
from msgspec import Meta, Struct

from palm_core.errors import InputError, WorkError
from palm_core.model.files import is_folder, read_bounded, write_atomically
from palm_core.model.normalization import Normalization
from palm_core.model.policy import LARGEST_REWARD, Policy, PolicySet
from palm_core.validation import complaint, one_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from palm_core.model.results import Certificate, Gaps

FORMAT: Final = "palm-portfolio"
VERSION: Final = 1
#: Nesting limit of ``task`` and ``info``, as deep as the encoder can write.
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
        if "description" in declared:  # a docstring; Python 3.13 removes its indentation
            declared["description"] = inspect.cleandoc(declared["description"])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "PALM portfolio",
        **schema,
    }


def record_of_normalization(given: Normalization) -> NormalizationRecord:
    """Return the record of a normalisation."""
    return NormalizationRecord(
        method=given.method, lower=list(given.lower), upper=list(given.upper), over=given.over
    )


def record_of_policy(policy: Policy) -> PolicyRecord:
    """Return the record of a policy; per-prompt arrays are stored in the ledger only."""
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
    """Return the policy of a record; ``per_prompt`` arrays are passed through."""
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
    """Return the record of exact gaps; an infinite ε becomes null."""
    finite = math.isfinite(gaps.epsilon)
    return GapsRecord(
        epsilon=gaps.epsilon if finite else None,
        delta=gaps.delta,
        epsilon_weights=gaps.epsilon_weights.tolist() if finite else None,
        delta_weights=gaps.delta_weights.tolist(),
    )


def record_of_certificate(found: Certificate, stopped: str | None = None) -> CertificateRecord:
    """Return the record of a certificate; an infinite ε becomes null."""
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


#: File name of the portfolio in a run's folder.
PORTFOLIO_FILE = "portfolio.json"
# Size limit: parsed, JSON takes about twenty times its size, containers up to a hundred.
LARGEST_FILE = 1 << 25
MOST_CONTAINERS = 1 << 20


@dataclass(frozen=True, kw_only=True, eq=False)
class Portfolio:
    """A small set of policies that serves every weight vector (paper, definition 3.2).

    Args:
        policies: the portfolio, in raw units, in the order of their choice.
        objectives: d names.
        normalization: the space of the weights passed to :meth:`route`.
        oracle_calls: number of oracle calls of the run.
        candidates: number of distinct policies that the portfolio was chosen from.
        slack: oracle slack, claimed and measured.
        pruning: method and result of pruning, or ``None`` for a hand-made portfolio.
        gaps: exact gaps against all candidates.
        theorem: the a-priori guarantee, or why Theorem 3.4 does not apply.
        certificate: a guarantee against every policy at every weight.
        missing: weights that the oracle failed at; the guarantees do not use them.
        task: the resolved task, plain values.
        task_hash: its SHA-256.
        made_with: package → version.

    Raises:
        InputError: policies that do not share the objectives, or whose names
            repeat.
    """

    policies: tuple[Policy, ...]
    objectives: tuple[str, ...]
    normalization: Normalization
    oracle_calls: int = 0
    candidates: int = 0
    slack: SlackRecord = field(default_factory=SlackRecord)
    pruning: PruningRecord | None = None
    gaps: GapsRecord | None = None
    theorem: TheoremRecord | None = None
    certificate: CertificateRecord | None = None
    missing: tuple[MissingRecord, ...] = ()
    task: Mapping[str, Any] | None = None
    task_hash: str | None = None
    made_with: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        limits = self.normalization
        if not len(limits.lower) == len(limits.upper) == len(self.objectives):
            raise InputError(f"normalization: must have {len(self.objectives)} limits each way")
        if not (np.abs([limits.lower, limits.upper]) <= LARGEST_REWARD).all():
            raise InputError("normalization: limits must be finite numbers below 1e300")
        if not (limits.spread > 0).all():
            raise InputError("normalization: upper limits must be above lower limits")
        _ = self.policy_set  # validates a set of policies in d objectives

    @cached_property
    def policy_set(self) -> PolicySet:
        """The portfolio in normalised units, where weights are interpreted."""
        raw = PolicySet.from_policies(self.policies, self.objectives)
        with np.errstate(over="ignore"):  # PolicySet refuses values that are not finite
            return self.normalization.apply(raw)

    def __len__(self) -> int:
        return len(self.policies)

    def __repr__(self) -> str:
        return f"Portfolio({len(self)} policies: {', '.join(p.id for p in self.policies)})"

    @overload
    def route(self, weights: Sequence[float]) -> Policy: ...
    @overload
    def route(self, weights: ArrayLike) -> Policy | list[Policy]: ...
    def route(self, weights: ArrayLike) -> Policy | list[Policy]:
        """Return the best policy of the portfolio for each weight vector.

        Args:
            weights: (d,) or (k, d) on the simplex, in the space of
                :attr:`normalization` (the table's normalised columns, say).

        Returns:
            One policy for (d,), a list of k for (k, d).

        Raises:
            InputError: see :func:`palm_core.check_weights`.
        """
        chosen = self.route_indices(weights)
        if np.ndim(weights) == 1:
            return self.policies[int(chosen[0])]
        return [self.policies[i] for i in chosen.tolist()]

    def route_indices(self, weights: ArrayLike) -> NDArray[np.intp]:
        """Index into :attr:`policies` of the best policy, (k,) for (k, d) weights."""
        from palm_core.model.policy import best_policies

        return best_policies(self.policy_set, weights).indices.astype(np.intp, copy=False)

    def save(self, path: str | Path) -> Path:
        """Write ``portfolio.json`` atomically, replacing an earlier one.

        Args:
            path: a file, or an existing folder to put ``portfolio.json`` into.

        Returns:
            The file written.

        Raises:
            WorkError: the file cannot be written, or would be too large to be read.
        """
        file = Path(path)
        if is_folder(file):
            file = file / PORTFOLIO_FILE
        data = msgspec.json.format(msgspec.json.encode(self._document()))
        if len(data) > LARGEST_FILE:
            raise WorkError(
                f"{one_line(file)}: a portfolio of {len(data)} bytes, must be at most "
                f"{LARGEST_FILE}; keep less in the info of its policies"
            )
        write_atomically(file, data)
        return file

    @classmethod
    def load(cls, path: str | Path) -> Portfolio:
        """Read a portfolio file, or the one in a run's folder.

        A portfolio is data: nothing in it is executed or opened.

        Raises:
            InputError: no such file, not a portfolio, cut short, from a newer
                version, or with values that no portfolio can have.
        """
        file = Path(path)
        if is_folder(file):
            file = file / PORTFOLIO_FILE
            if not file.exists():
                raise InputError(f"{one_line(path)} is a directory without a portfolio.json")
        return cls.parse(read_bounded(file, LARGEST_FILE), one_line(file))

    @classmethod
    def parse(cls, data: bytes, source: str = "portfolio") -> Portfolio:
        """Parse the contents of a portfolio file; ``source`` is its name in error messages.

        Raises:
            InputError: see :meth:`load`.
        """
        try:
            return cls._from_document(_decode(data))
        except InputError as error:
            raise InputError(one_line(f"{source}: {error}")) from error

    def _document(self) -> PortfolioDocument:
        return PortfolioDocument(
            objectives=list(self.objectives),
            normalization=record_of_normalization(self.normalization),
            policies=[record_of_policy(policy) for policy in self.policies],
            oracle_calls=self.oracle_calls,
            candidates=self.candidates,
            slack=self.slack,
            pruning=self.pruning,
            gaps=self.gaps,
            theorem=self.theorem,
            certificate=self.certificate,
            missing=list(self.missing),
            task=None if self.task is None else dict(self.task),
            task_hash=self.task_hash,
            made_with=dict(self.made_with),
        )

    @classmethod
    def _from_document(cls, document: PortfolioDocument) -> Portfolio:
        limits = document.normalization
        d = len(document.objectives)
        for record in document.policies:
            if len(record.weights) != d or len(record.rewards) != d:
                raise InputError(f"policy {record.id!r}: must have {d} weights and {d} rewards")
            if record.reward_errors is not None and len(record.reward_errors) != d:
                raise InputError(f"policy {record.id!r}: must have {d} reward_errors")
            _check_text(record.artifact or "", "artifact")
        if too_deep([document.task, *(record.info for record in document.policies)]):
            raise InputError(f"task and info: nested more than {DEEPEST} deep")
        _check_names([record.id for record in document.policies], "policies")
        _check_names(document.objectives, "objectives")
        return cls(
            policies=tuple(policy_from_record(record) for record in document.policies),
            objectives=tuple(document.objectives),
            normalization=Normalization(
                method=limits.method,
                lower=tuple(limits.lower),
                upper=tuple(limits.upper),
                over=limits.over,
            ),
            oracle_calls=document.oracle_calls,
            candidates=document.candidates,
            slack=document.slack,
            pruning=document.pruning,
            gaps=document.gaps,
            theorem=document.theorem,
            certificate=document.certificate,
            missing=tuple(document.missing),
            task=document.task,
            task_hash=document.task_hash,
            made_with=document.made_with,
        )


class _Head(msgspec.Struct):
    format: str
    version: int


def _decode(data: bytes) -> PortfolioDocument:
    if data.count(b"{") + data.count(b"[") > MOST_CONTAINERS:
        raise InputError("nested lists and objects by the million, not a portfolio")
    try:
        head = msgspec.json.decode(data, type=_Head)
    except msgspec.ValidationError:
        raise InputError("is not a portfolio (no format and version)") from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InputError(f"is cut short or not JSON: {error}") from error
    if head.format != FORMAT:
        raise InputError(f"format = {one_line(repr(head.format), 80)}: must be {FORMAT!r}")
    if head.version > VERSION:
        raise InputError(
            f"written in portfolio format {head.version}, this palm-core reads up to "
            f"{VERSION}; upgrade palm-core to read it"
        )
    try:
        return msgspec.json.decode(data, type=PortfolioDocument)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InputError(str(error)) from error


def _check_names(names: Sequence[str], what: str) -> None:
    for name in names:
        _check_text(name, what)
    if len(set(names)) != len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise InputError(f"{what}: duplicate name {twice!r}, every name must be unique")


def _check_text(text: str, what: str) -> None:
    """Refuse control characters, which would affect the terminal."""
    unfit = complaint(text)
    if unfit is not None:
        raise InputError(f"{what}: {unfit}")
