"""Portfolios and ``portfolio.json``: JSON schema, reading, writing, routing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, overload

import msgspec
import numpy as np
from msgspec import Meta

from palm_core.errors import InputError, WorkError
from palm_core.model.encoding import Count, check_vector, convert, json_schema, plain, stored
from palm_core.model.files import is_folder, read_bounded, write_atomically
from palm_core.model.normalization import Normalization
from palm_core.model.policy import LARGEST_REWARD, Policy, PolicySet
from palm_core.model.results import (
    Certificate,
    Cover,
    Gaps,
    Loss,
    Missing,
    Reference,
    Slack,
    Theorem,
)
from palm_core.validation import check_weights, complaint, one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

FORMAT: Final = "palm-portfolio"
VERSION: Final = 1
#: Nesting limit of ``task`` and ``info``, as deep as the encoder can write.
DEEPEST: Final = 64


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
    schema = json_schema(Portfolio, (Policy, Cover))
    record = schema["$defs"]["Portfolio"]
    fixed = {
        "format": {"description": "what this is", "enum": [FORMAT]},
        "version": {
            "description": "raised by what older readers would misread",
            "type": "integer",
            "minimum": 1,
            "maximum": VERSION,
        },
    }
    record["properties"] = fixed | record["properties"]
    record["required"] = [*fixed, *record["required"]]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "PALM portfolio",
        **schema,
    }


#: File name of the portfolio in a run's folder.
PORTFOLIO_FILE = "portfolio.json"
# Size limit: parsed, JSON takes about twenty times its size, containers up to a hundred.
LARGEST_FILE = 1 << 25
MOST_CONTAINERS = 1 << 20


@dataclass(frozen=True, kw_only=True, eq=False)
class Portfolio:
    """A small set of policies that serves every weight vector (paper, definition 3.2).

    Args:
        objectives: d names.
        normalization: the space of the weights passed to :meth:`route`.
        policies: the portfolio, in raw units, in the order of their choice.
        oracle_calls: number of oracle calls of the run.
        candidates: number of distinct policies that the portfolio was chosen from.
        slack: oracle slack, claimed and measured.
        pruning: the cover, or ``None`` for a hand-made portfolio.
        gaps: exact gaps against all candidates.
        reference: what the loss at a weight vector is measured against; ``None`` in files of
            earlier versions, or where it would be too large.
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

    objectives: Annotated[tuple[str, ...], Meta(min_length=2, description="d names")]
    normalization: Normalization
    policies: Annotated[
        tuple[Policy, ...], Meta(min_length=1, description="in the order they were chosen")
    ]
    oracle_calls: Annotated[Count, Meta(description="oracle calls that the run has made")] = 0
    candidates: Annotated[Count, Meta(description="distinct policies it was chosen from")] = 0
    slack: Slack = field(default_factory=Slack)
    pruning: Cover | None = None
    gaps: Gaps | None = None
    reference: Reference | None = None
    theorem: Theorem | None = None
    certificate: Certificate | None = None
    missing: Annotated[
        tuple[Missing, ...], Meta(description="weights without an answer; guarantees do without")
    ] = ()
    task: Annotated[
        Mapping[str, Any] | None, Meta(description="the task as it was resolved, options and all")
    ] = None
    task_hash: Annotated[str | None, Meta(description="SHA-256 of `task`, as JSON")] = None
    made_with: Annotated[Mapping[str, str], Meta(description="package → version")] = field(
        default_factory=dict
    )

    def __post_init__(self) -> None:
        limits = self.normalization
        if not len(limits.lower) == len(limits.upper) == len(self.objectives):
            raise InputError(
                f"normalization: must have {len(self.objectives)} lower and upper limits"
            )
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
        """Index into :attr:`policies` of the best policy, (k,) for (k, d) weights.

        Raises:
            InputError: weights that are not on the simplex.
        """
        from palm_core.model.policy import best_policies

        return best_policies(self.policy_set, weights).indices.astype(np.intp, copy=False)

    def loss(self, weights: ArrayLike) -> Loss:
        """What the portfolio loses at each weight vector, at most, to the best there is.

        Args:
            weights: (d,) or (k, d) on the simplex, as for :meth:`route`.

        Returns:
            :class:`palm_core.model.results.Loss`: upper bounds on ε and δ, rounded up, against
            :attr:`reference`, and the second best policy of the portfolio. Without a reference
            the bounds of the whole portfolio, of its certificate or else its gaps.

        Raises:
            InputError: see :func:`palm_core.check_weights`.
        """
        rows = check_weights(weights, len(self.objectives))
        found = self.reference
        if found is None:
            proof = self.certificate or self.gaps
            pair = (np.inf, np.inf) if proof is None else (proof.epsilon, proof.delta)
            epsilon, delta = (np.full(len(rows), bound) for bound in pair)
        else:
            epsilon, delta = found.loss(self.policy_set, rows)
        kind = "portfolio" if found is None else found.kind
        second: list[Policy] | None = None
        if len(self) > 1:
            values = self.policy_set.objective(rows)
            values[np.arange(len(rows)), self.route_indices(rows)] = -np.inf
            second = [self.policies[place] for place in values.argmax(axis=1).tolist()]
        if np.ndim(weights) == 1:
            only = None if second is None else second[0]
            return Loss(epsilon=float(epsilon[0]), delta=float(delta[0]), runner_up=only, kind=kind)
        return Loss(epsilon=epsilon, delta=delta, runner_up=second, kind=kind)

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
        data = msgspec.json.format(msgspec.json.encode(self.document()))
        if len(data) > LARGEST_FILE:
            raise WorkError(
                f"{one_line(file)}: {len(data)} bytes, must be at most {LARGEST_FILE}; reduce the "
                "info of its policies"
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
                raise InputError(f"{one_line(path)}: is a folder without a portfolio.json")
        return cls.parse(read_bounded(file, LARGEST_FILE), one_line(file))

    @classmethod
    def parse(cls, data: bytes, source: str = "portfolio") -> Portfolio:
        """Parse the contents of a portfolio file; ``source`` is its name in error messages.

        Raises:
            InputError: see :meth:`load`.
        """
        try:
            found = convert(_current(_decode(data)), cls)
            found._check_stored()
            return found
        except (InputError, msgspec.ValidationError, RecursionError) as error:
            raise InputError(one_line(f"{source}: {error}")) from error

    def document(self) -> dict[str, Any]:
        """The contents of ``portfolio.json`` as plain values."""
        values: dict[str, Any] = {item.name: getattr(self, item.name) for item in fields(self)}
        values["policies"] = [stored(policy) for policy in self.policies]
        values["pruning"] = None if self.pruning is None else stored(self.pruning)
        return {"format": FORMAT, "version": VERSION, **plain(values)}

    def _check_stored(self) -> None:
        """Check what a file may say and a run never does."""
        d = len(self.objectives)
        for policy in self.policies:
            name = f"policy {policy.id!r}"
            check_vector(policy.weights, d, f"{name}: weights", most=1.0)
            check_vector(policy.reward_errors, d, f"{name}: reward_errors")
            _check_text(policy.artifact or "", "artifact")
        for title, proof in (("gaps", self.gaps), ("certificate", self.certificate)):
            if proof is not None:
                check_vector(proof.epsilon_weights, d, f"{title}: epsilon_weights", most=1.0)
                check_vector(proof.delta_weights, d, f"{title}: delta_weights", most=1.0)
        if self.reference is not None:
            self.reference.check(d)
        for item in self.missing:
            check_vector(item.weights, d, "missing: weights", most=1.0)
        if too_deep([self.task, *(policy.info for policy in self.policies)]):
            raise InputError(f"task and info: nested more than {DEEPEST} deep")
        _check_names([policy.id for policy in self.policies], "policies")
        _check_names(self.objectives, "objectives")


_NO_JSON = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)


class _Head(msgspec.Struct):
    format: str
    version: int


def _decode(data: bytes) -> Any:
    if data.count(b"{") + data.count(b"[") > MOST_CONTAINERS:
        raise InputError(f"more than {MOST_CONTAINERS} lists and objects, must have fewer")
    try:
        head = msgspec.json.decode(data, type=_Head)
    except msgspec.ValidationError:
        raise InputError("is not a portfolio: format and version are missing") from None
    except _NO_JSON as error:
        raise InputError(f"is incomplete or not JSON: {error}") from error
    if head.format != FORMAT:
        raise InputError(f"format = {one_line(repr(head.format), 80)}: must be {FORMAT!r}")
    if head.version > VERSION:
        raise InputError(
            f"version = {head.version}: must be at most {VERSION}; upgrade palm-core to read it"
        )
    try:
        return msgspec.json.decode(data)
    except _NO_JSON as error:
        raise InputError(f"is incomplete or not JSON: {error}") from error


def _current(document: Any) -> Any:
    """Rename the keys that earlier versions of palm-core wrote."""
    pruning = document.get("pruning")
    if isinstance(pruning, dict) and "indices" not in pruning:
        pruning.setdefault("indices", [])
        for old, new in (("weights", "n_weights"), ("negative_optima", "n_negative")):
            if old in pruning:
                pruning[new] = pruning.pop(old)
        if pruning.get("everywhere"):
            pruning["epsilon"], pruning["delta"] = pruning.pop("mu", 0), pruning.pop("alpha", 0)
    return document


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
