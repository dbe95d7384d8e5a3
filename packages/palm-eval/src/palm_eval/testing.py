"""Conformance tests for reward functions and metrics.

One line in a test::

    from palm_eval.testing import check_metric, check_reward

    def test_my_reward():
        check_reward(my_reward, columns={"ground_truth": [...]}, prompts=[...], ...)

    def test_my_metric():
        check_metric(my_metric)

The rules are assumptions of :func:`palm_eval.score` and ``palm evaluate``: equal responses are
scored once, in any batches, and scores are cached; a portfolio is a set, and so are its
candidates. For oracles see :mod:`palm_core.testing`.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from palm_core import InputError, PolicySet, WorkError, sample_weights
from palm_core.plugin import check_count, check_number, one_line
from palm_eval.rewards.base import called, check_lengths, check_scores, columns_read

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from palm_eval.metric_plugins import Metric
    from palm_eval.rewards.base import RewardFunction

_RESPONSES = (
    ("What is 2 + 2?", "It is 4."),
    ("What is 2 + 2?", ""),
    ("What is 2 + 2?", "Four, that is \\boxed{4}, or 4,000.5 / 1,000."),
    ("Name a colour.", "Blue.\n\n* like the sky\n* like the sea"),
    ("Name a colour.", "Grün, 緑, أخضر 🙂"),
    ("Why?", "because " * 300),
    ("Why?", "\t\n"),
    ("What is 2 + 2?", "It is 4."),
)
_REWARD_RULES = ("scores", "unchanged", "deterministic", "order", "alone", "fingerprint")
_METRIC_RULES = ("value", "unchanged", "deterministic", "order", "single", "everything")
_POLICIES = 12
_FEW = (0, 4, 7)


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """The result of a conformance test.

    Attributes:
        checked: the rules that hold.
        values: the scores of the responses (``None`` if unscored), or the metric in
            each number of objectives.
        calls: number of calls of the function.
    """

    checked: tuple[str, ...]
    values: tuple[float | None, ...]
    calls: int


def check_reward(
    function: RewardFunction,
    *,
    prompts: Sequence[Any] | None = None,
    completions: Sequence[Any] | None = None,
    columns: Mapping[str, Sequence[Any]] | None = None,
    tolerance: float = 1e-6,
    skip: Collection[str] = (),
) -> CheckReport:
    """Check a reward function, called as builds call it: by keyword, as TRL does.

    Functions of ``(completions, **kwargs)``, with ``prompts`` or without, asynchronous ones
    and objects with ``__call__`` are supported.

    =============  ===========================================================
    scores         one finite number per completion, or None for no score
    unchanged      what it is given stays as it is
    deterministic  the same batch again has the same scores
    order          a batch in another order has the same scores in that order
    alone          a response by itself scores as it does in a batch
    fingerprint    is a text, if there is one: what it stands for is cached
    =============  ===========================================================

    Args:
        function: to be checked.
        prompts: one for each completion; ``None`` takes built-in edge cases (empty, other
            scripts, long, duplicate).
        completions: as many.
        columns: by name, one value for each completion.
        tolerance: the maximum difference of scores that should be equal, relative to the larger
            of their size and 1; for a model in half precision give 1e-2.
        skip: rules to leave out: ("deterministic", "order", "alone") for a random function,
            whose scores must not be cached.

    Raises:
        AssertionError: a rule is broken; one line with the rule and the values. Also where
            no completion has a score: then none of the rules was tried.
        InputError: ``skip`` names no rule, prompts without completions, lengths that
            differ, or a column that the function needs and ``columns`` lacks.

    Example:
        >>> check_reward(lambda prompts, completions: [float(len(c)) for c in completions]).calls
        11
    """
    _check_skip(skip, _REWARD_RULES)
    slack = check_number(tolerance, name="tolerance", least=0.0)
    if (prompts is None) != (completions is None):
        raise InputError("prompts, completions: must be given together")
    asked = [row[0] for row in _RESPONSES] if prompts is None else list(prompts)
    answers = [row[1] for row in _RESPONSES] if completions is None else list(completions)
    check_lengths(asked, answers)
    given = {name: list(values) for name, values in (columns or {}).items()}
    for name, values in given.items():
        if len(values) != len(asked):
            raise InputError(f"column {name!r} has {len(values)} values, must be {len(asked)}")
    name = str(getattr(function, "__name__", "reward"))
    read = {column: given[column] for column in columns_read(name, function, given)}
    trial = _RewardTrial(function, name, asked, answers, read, frozenset(skip))

    def compare(rule: str, places: Sequence[int], how: str) -> None:
        for place, score in zip(places, trial.scores(rule, places), strict=True):
            before = first[place]
            if not _same_score(score, before, slack):
                raise _broken(
                    rule, f"completion {place} scores {_shown(before)}, {how} {_shown(score)}"
                )

    everything = range(len(asked))
    first = trial.scores("scores", everything)
    if first.count(None) == len(first):
        raise _broken(
            "scores",
            f"it returned None for all {len(first)} completions: give prompts, completions and "
            "columns of which it scores some",
        )
    if "deterministic" not in skip:
        compare("deterministic", everything, "the same batch again")
    if "order" not in skip:
        compare("order", everything[::-1], "in a batch in reverse order")
    if "alone" not in skip:
        for place in everything:
            compare("alone", [place], "by itself")
    fingerprint = getattr(function, "fingerprint", None)
    if "fingerprint" not in skip and not (fingerprint is None or _is_text(fingerprint)):
        raise _broken("fingerprint", f"{one_line(repr(fingerprint), 80)}: must be a text or None")
    return CheckReport(
        checked=tuple(rule for rule in _REWARD_RULES if rule not in skip),
        values=tuple(first),
        calls=trial.calls,
    )


def check_metric(
    metric: Metric,
    *,
    dimensions: Sequence[int] = (2, 3),
    tolerance: float = 1e-9,
    skip: Collection[str] = (),
) -> CheckReport:
    """Check a metric, (portfolio, candidates, weights) -> number, on made-up policies.

    =============  ===========================================================
    value          it is a finite number
    unchanged      the weights stay as they are
    deterministic  asked again it says the same
    order          so it does for policies and weights in another order
    single         it takes a portfolio of one policy
    everything     it takes a portfolio of all candidates
    =============  ===========================================================

    Args:
        metric: to be checked.
        dimensions: the numbers of objectives to test.
        tolerance: as of :func:`check_reward`.
        skip: rules to leave out.

    Raises:
        AssertionError: a rule is broken; one line with the rule and the values.
        InputError: ``skip`` names no rule, or a dimension below 2.

    Example:
        >>> check_metric(lambda portfolio, candidates, weights: float(len(portfolio))).values
        (3.0, 3.0)
    """
    _check_skip(skip, _METRIC_RULES)
    slack = check_number(tolerance, name="tolerance", least=0.0)
    trials = [_MetricTrial(metric, d, frozenset(skip)) for d in dimensions]
    values = []
    for trial in trials:
        first = trial.value("value", _FEW)
        for rule, how, step in (
            ("deterministic", "asked again", 1),
            ("order", "in reverse order", -1),
        ):
            if rule not in skip:
                again = trial.value(rule, _FEW, step)
                if not _equal(again, first, slack):
                    raise _broken(rule, f"d = {trial.d}: it is {first:.9g}, {how} {again:.9g}")
        for rule, own in (("single", _FEW[:1]), ("everything", range(_POLICIES))):
            if rule not in skip:
                trial.value(rule, own)
        values.append(first)
    return CheckReport(
        checked=tuple(rule for rule in _METRIC_RULES if rule not in skip),
        values=tuple(values),
        calls=sum(trial.calls for trial in trials),
    )


@dataclass
class _RewardTrial:
    """A reward function under test, with its inputs."""

    function: RewardFunction
    name: str
    prompts: list[Any]
    completions: list[Any]
    columns: dict[str, list[Any]]
    skip: frozenset[str]
    calls: int = 0

    def scores(self, rule: str, places: Sequence[int]) -> list[float | None]:
        """The scores of a batch; invalid scores are a failure of ``rule``."""
        self.calls += 1
        prompts, completions = (
            [row[i] for i in places] for row in (self.prompts, self.completions)
        )
        columns = {name: [values[i] for i in places] for name, values in self.columns.items()}
        kept = deepcopy((prompts, completions, columns))
        try:
            found = called(self.function, prompts, completions, columns)
        except Exception as error:
            raise _broken(rule, f"it raised {type(error).__name__}: {error}") from error
        if "unchanged" not in self.skip and (prompts, completions, columns) != kept:
            raise _broken("unchanged", "prompts, completions or columns have changed after a call")
        try:
            return check_scores(found, kept[0], self.name)
        except WorkError as error:
            raise _broken(rule, str(error)) from error


class _MetricTrial:
    """A metric under test, on policies of which each is the best one at some weights."""

    def __init__(self, metric: Metric, d: int, skip: frozenset[str]) -> None:
        self.metric, self.skip, self.calls = metric, skip, 0
        self.d = check_count(d, name="dimensions", least=2)
        rng = np.random.default_rng(d)
        # on a sphere
        self.candidates = PolicySet(np.sqrt(rng.dirichlet(np.ones(d), _POLICIES)))
        self.weights = sample_weights(64, d, seed=rng)

    def value(self, rule: str, portfolio: Sequence[int], step: int = 1) -> float:
        """The metric of a portfolio; -1 for ``step`` reverses policies and weights."""
        self.calls += 1
        weights, kept = self.weights[::step].copy(), self.weights[::step]
        subset = self.candidates.subset(portfolio[::step])
        candidates = self.candidates.subset(range(_POLICIES)[::step])
        try:
            found = self.metric(subset, candidates, weights)
        except Exception as error:
            text = f"d = {self.d}: it raised {type(error).__name__}: {error}"
            raise _broken(rule, text) from error
        if "unchanged" not in self.skip and not np.array_equal(weights, kept):
            raise _broken("unchanged", f"d = {self.d}: the weights have changed after the call")
        try:
            return check_number(found, name=f"d = {self.d}: value")
        except InputError as error:
            raise _broken(rule, str(error)) from error


def _check_skip(skip: Collection[str], rules: Sequence[str]) -> None:
    if isinstance(skip, str) or not set(skip) <= set(rules):
        raise InputError(f"skip = {skip!r}: must be names among {', '.join(rules)}")


def _equal(one: float, other: float, tolerance: float) -> bool:
    return abs(one - other) <= tolerance * max(1.0, abs(one), abs(other))


def _same_score(one: float | None, other: float | None, tolerance: float) -> bool:
    if one is None or other is None:
        return one is other
    return _equal(one, other, tolerance)


def _shown(score: float | None) -> str:
    return "None" if score is None else f"{score:.9g}"


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _broken(rule: str, text: str) -> AssertionError:
    return AssertionError(f"{rule}: {one_line(' '.join(text.split()))}")
