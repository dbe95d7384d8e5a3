"""The result: a few policies, how to choose among them, and what is proven.

Routing is argmax_{π ∈ P} J_w(π), ties to the first policy, alone as in a batch.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import msgspec
import numpy as np

from palm_core.documents import (
    DEEPEST,
    FORMAT,
    VERSION,
    CertificateRecord,
    GapsRecord,
    MissingRecord,
    PortfolioDocument,
    PruningRecord,
    SlackRecord,
    TheoremRecord,
    policy_from_record,
    record_of_normalization,
    record_of_policy,
    too_deep,
)
from palm_core.errors import InputError, WorkError
from palm_core.files import is_folder, read_bounded, write_atomically
from palm_core.normalization import Normalization
from palm_core.policies import LARGEST_REWARD, PolicySet
from palm_core.text import complaint, one_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from palm_core.policies import Policy

# Parsed, it takes some twenty times its size, and containers up to a hundred times.
LARGEST_FILE = 1 << 25
MOST_CONTAINERS = 1 << 20


@dataclass(frozen=True, kw_only=True, eq=False)
class Portfolio:
    """A few policies that serve every weight vector (paper, definition 3.2).

    Args:
        policies: the portfolio, in raw units, in the order they were chosen.
        objectives: d names.
        normalization: the space that weights given to :meth:`route` live in.
        oracle_calls: how many oracle calls the run has made.
        candidates: how many distinct policies the portfolio was chosen from.
        slack: oracle slack, claimed and measured.
        pruning: how the cover was found, or ``None`` for a hand-made portfolio.
        gaps: exact gaps against all candidates.
        theorem: the a-priori guarantee, or why Theorem 3.4 does not apply.
        certificate: a guarantee against every policy at every weight.
        missing: weights that the oracle failed at; the guarantees do without them.
        task: the task as it was resolved, plain values.
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
        _ = self.policy_set  # refuses what is not a set of policies in d objectives

    @cached_property
    def policy_set(self) -> PolicySet:
        """The portfolio in normalised units, where weights are interpreted."""
        raw = PolicySet.from_policies(self.policies, self.objectives)
        with np.errstate(over="ignore"):  # PolicySet refuses what is not finite
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
        from palm_core.cover import best_policies

        return best_policies(self.policy_set, weights).indices.astype(np.intp, copy=False)

    def save(self, path: str | Path) -> Path:
        """Write ``portfolio.json``: whole or not at all, over an earlier one.

        Args:
            path: a file, or an existing folder to put ``portfolio.json`` into.

        Returns:
            The file written.

        Raises:
            WorkError: the file cannot be written, or would be too large to be read.
        """
        file = Path(path)
        if is_folder(file):
            file = file / "portfolio.json"
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

        A portfolio is data: nothing in it is run or opened.

        Raises:
            InputError: no such file, not a portfolio, cut short, from a newer
                version, or with values that no portfolio can have.
        """
        file = Path(path)
        if is_folder(file):
            file = file / "portfolio.json"
            if not file.exists():
                raise InputError(f"{one_line(path)} is a directory without a portfolio.json")
        return cls.parse(read_bounded(file, LARGEST_FILE), one_line(file))

    @classmethod
    def parse(cls, data: bytes, source: str = "portfolio") -> Portfolio:
        """Read the contents of a portfolio file; ``source`` is what errors call it.

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
        raise InputError(f"{what}: {twice!r} stands twice, every name must be unique")


def _check_text(text: str, what: str) -> None:
    """Refuse what would act on the terminal that it is shown on."""
    unfit = complaint(text)
    if unfit is not None:
        raise InputError(f"{what}: {unfit}")
