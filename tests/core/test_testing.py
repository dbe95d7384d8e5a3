"""The conformance suite passes a sound oracle and names the rule that a broken one breaks."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from unittest import SkipTest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from palm_core import InputError, Policy
from palm_core.plugin import weight_id
from palm_core.testing import RULES, ConformanceReport, OracleConformance, check_conformance

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray


class Sound:
    """The best of four measured policies at each weight: exact and quick."""

    objectives: Any = ("help", "brevity", "safety")
    values = np.array([[1.0, 0.0, 0.2], [0.1, 0.9, 0.3], [0.0, 0.2, 1.0], [0.5, 0.5, 0.5]])
    costs = np.array([0.3, 0.1, 0.0, 0.1])
    reward_bound: Any = 1.5
    regularizer_bound: Any = 0.3
    fingerprint: Any = "four policies"

    def solve(self, weights: NDArray[np.float64]) -> Iterator[Any]:
        for index, row in enumerate(weights):
            yield self.answer(index, row)

    def choose(self, weights: NDArray[np.float64]) -> int:
        return int(np.argmax(self.values @ weights - self.costs))

    def answer(self, index: int, weights: NDArray[np.float64]) -> Any:
        best = self.choose(weights)
        return Policy(
            id=weight_id(weights),
            weights=weights,
            rewards=self.values[best],
            regularizer=self.costs[best],
            prompt_rewards=self.values[best] + [[0.1, 0.0, 0.2], [-0.1, 0.0, -0.2]],
            prompt_regularizer=self.costs[best] + np.array([0.1, -0.1]),
            info={"policy": best},
        )


class NoSolve(Sound):
    solve: Any = None


class OneObjective(Sound):
    objectives = ("help",)


class OtherObjectivesEachTime(Sound):
    made = 0

    def __init__(self) -> None:
        OtherObjectivesEachTime.made += 1
        self.objectives = ("help", "brevity", f"number {OtherObjectivesEachTime.made}")


class NegativeSlack(Sound):
    delta = -0.1


class EpsilonAboveOne(Sound):
    epsilon = 1.5


class BoundIsText(Sound):
    reward_bound = "1.5"


class FingerprintIsNumber(Sound):
    fingerprint = 3


class FingerprintOfTheObject(Sound):
    made = 0

    def __init__(self) -> None:
        FingerprintOfTheObject.made += 1
        self.fingerprint = f"object {FingerprintOfTheObject.made}"


class ReturnsAList(Sound):
    def solve(self, weights: NDArray[np.float64]) -> Any:
        return list(super().solve(weights))


class StaysBusyWhenLeft(Sound):
    def __init__(self) -> None:
        self.busy = False

    def solve(self, weights: NDArray[np.float64]) -> Iterator[Any]:
        if self.busy:
            raise RuntimeError("still at work")
        self.busy = True
        yield from super().solve(weights)
        self.busy = False


class ForgetsTheLast(Sound):
    def solve(self, weights: NDArray[np.float64]) -> Iterator[Any]:
        return super().solve(weights[:-1])


class AnswersTwice(Sound):
    def solve(self, weights: NDArray[np.float64]) -> Iterator[Any]:
        return super().solve(np.vstack([weights, weights]))


class RaisesAtTheThird(Sound):
    def answer(self, index: int, weights: NDArray[np.float64]) -> Any:
        if index == 2:
            raise RuntimeError("out of\nmemory")
        return super().answer(index, weights)


class SolveItselfRaises(Sound):
    def solve(self, weights: NDArray[np.float64]) -> Any:
        raise RuntimeError("out of memory")


class SkipsARepeatedWeight(Sound):
    def solve(self, weights: NDArray[np.float64]) -> Iterator[Any]:
        seen = set()
        for index, row in enumerate(weights):
            if row.tobytes() not in seen:
                seen.add(row.tobytes())
                yield self.answer(index, row)


class ScalesTheWeightsItIsGiven(Sound):
    def solve(self, weights: NDArray[np.float64]) -> Iterator[Any]:
        answers = list(super().solve(weights.copy()))
        weights *= 2.0
        yield from answers


class UsesOneBuffer(Sound):
    def solve(self, weights: NDArray[np.float64]) -> Iterator[Any]:
        buffer = np.zeros(3)
        for answer in super().solve(weights):
            buffer[:] = answer.rewards
            yield replace(answer, rewards=buffer)


class UsesOneBufferForWeights(Sound):
    def solve(self, weights: NDArray[np.float64]) -> Iterator[Any]:
        buffer = np.zeros(3)
        for answer in super().solve(weights):
            buffer[:] = answer.weights
            yield replace(answer, weights=buffer)


class SortsTheWeights(Sound):
    def solve(self, weights: NDArray[np.float64]) -> Iterator[Any]:
        return super().solve(weights[np.argsort(weights[:, 0])])


class AnswersTuples(Sound):
    def answer(self, index: int, weights: NDArray[np.float64]) -> Any:
        return ("w", [1.0, 0.0, 0.0])


class NormalisesToTheLargest(Sound):
    def answer(self, index: int, weights: NDArray[np.float64]) -> Any:
        return replace(super().answer(index, weights), weights=weights / weights.max())


class RewardsOfTheWrongShape(Sound):
    def answer(self, index: int, weights: NDArray[np.float64]) -> Any:
        return replace(super().answer(index, weights), rewards=np.zeros(2))


class NotANumber(Sound):
    def answer(self, index: int, weights: NDArray[np.float64]) -> Any:
        return replace(super().answer(index, weights), rewards=[np.nan, 0.0, 0.0])


class NegativeRegularizer(Sound):
    def answer(self, index: int, weights: NDArray[np.float64]) -> Any:
        return replace(super().answer(index, weights), regularizer=-0.1)


class InfoIsNotJson(Sound):
    def answer(self, index: int, weights: NDArray[np.float64]) -> Any:
        return replace(super().answer(index, weights), info={"array": np.zeros(2)})


class PromptsOfAnotherPolicy(Sound):
    def answer(self, index: int, weights: NDArray[np.float64]) -> Any:
        return replace(super().answer(index, weights), prompt_rewards=np.full((2, 3), 0.5))


class RegularizerNotThePromptMean(Sound):
    def answer(self, index: int, weights: NDArray[np.float64]) -> Any:
        return replace(super().answer(index, weights), prompt_regularizer=[0.0, 2.0])


class OtherPromptsEachTime(Sound):
    def answer(self, index: int, weights: NDArray[np.float64]) -> Any:
        answer = super().answer(index, weights)
        rewards = np.repeat(answer.rewards[np.newaxis], index + 1, axis=0)
        return replace(answer, prompt_rewards=rewards, prompt_regularizer=None)


class DrawsFromOneStream(Sound):
    """Every call moves the generator on: a resumed run would answer otherwise."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def choose(self, weights: NDArray[np.float64]) -> int:
        return int(self.rng.integers(4))


class TiresWithEveryBatch(Sound):
    """A fresh one answers the same batch alike, this one does not."""

    def __init__(self) -> None:
        self.asked = 0

    def solve(self, weights: NDArray[np.float64]) -> Iterator[Any]:
        self.asked += 1
        rest = 1.0 / self.asked
        for answer in super().solve(weights):
            yield replace(answer, rewards=answer.rewards * rest, prompt_rewards=None)


class SeededByTheClock(Sound):
    made = 0

    def __init__(self) -> None:
        SeededByTheClock.made += 1
        self.costs = self.costs + SeededByTheClock.made * 1e-6


class NewIdEachTime(Sound):
    count = 0

    def answer(self, index: int, weights: NDArray[np.float64]) -> Any:
        NewIdEachTime.count += 1
        return replace(super().answer(index, weights), id=f"policy {NewIdEachTime.count}")


class AnswersARepeatOtherwise(Sound):
    def solve(self, weights: NDArray[np.float64]) -> Iterator[Any]:
        seen = set()
        for answer in super().solve(weights):
            again = answer.id in seen
            seen.add(answer.id)
            yield replace(
                answer, rewards=answer.rewards * (0.5 if again else 1.0), prompt_rewards=None
            )


class NamedByRow(Sound):
    def answer(self, index: int, weights: NDArray[np.float64]) -> Any:
        return replace(super().answer(index, weights), id=f"policy {index}")


class OneNameForAll(Sound):
    def answer(self, index: int, weights: NDArray[np.float64]) -> Any:
        return replace(super().answer(index, weights), id="policy")


class SeededByRow(Sound):
    def answer(self, index: int, weights: NDArray[np.float64]) -> Any:
        noise = np.random.default_rng(index).normal(size=3) * 1e-3
        first = super().answer(0, weights)
        noise *= not np.array_equal(weights, np.eye(3)[0])  # the weight that is asked twice
        return replace(first, rewards=first.rewards + noise, prompt_rewards=None)


class NormalisesOverTheBatch(Sound):
    def solve(self, weights: NDArray[np.float64]) -> Iterator[Any]:
        for answer in super().solve(weights):
            yield replace(answer, regularizer=0.1 / len(weights), prompt_regularizer=None)


class FailsOnOneWeightAlone(Sound):
    def solve(self, weights: NDArray[np.float64]) -> Iterator[Any]:
        spread = np.linalg.cholesky(np.cov(weights.T, ddof=1)) if len(weights) == 1 else None
        assert spread is None
        return super().solve(weights)


class ExceedsItsRewardBound(Sound):
    reward_bound = 1.25


class ExceedsItsRegularizerBound(Sound):
    reward_bound = None
    regularizer_bound = 0.25


class SecondBest(Sound):
    def choose(self, weights: NDArray[np.float64]) -> int:
        return int(np.argsort(self.values @ weights - self.costs)[-2])


class WorseThanItClaims(SecondBest):
    epsilon = 0.01
    delta = 0.01


class HoldsALock(Sound):
    def __init__(self) -> None:
        self.lock = threading.Lock()


class AnswersStayHere(Sound):
    def answer(self, index: int, weights: NDArray[np.float64]) -> Any:
        return _Answer(**vars(super().answer(index, weights)))


class _Answer(Policy):
    def __reduce__(self) -> Any:
        raise TypeError("a file handle stays where it is")


class ForgetsItsSettings(Sound):
    def __getstate__(self) -> Any:
        return {"costs": np.array([0.2, 0.1, 0.0, 0.1])}


class DoesNotArrive(Sound):
    def __setstate__(self, state: Any) -> None:
        raise RuntimeError("no GPU here")

    def __getstate__(self) -> Any:
        return {"device": "cuda"}


BROKEN: list[tuple[type, str, str]] = [
    (NoSolve, "attributes", r"must have a method solve\(weights\)"),
    (OneObjective, "attributes", "must be at least two distinct names"),
    (OtherObjectivesEachTime, "attributes", "those of an equal oracle"),
    (NegativeSlack, "claims", r"oracle\.delta = -0\.1"),
    (EpsilonAboveOne, "claims", r"oracle\.epsilon = 1\.5"),
    (BoundIsText, "claims", r"oracle\.reward_bound = '1\.5'"),
    (FingerprintIsNumber, "fingerprint", "3: must be a text"),
    (FingerprintOfTheObject, "fingerprint", "of an equal oracle"),
    (ReturnsAList, "iterator", "solve returned a list, must be an iterator"),
    (StaysBusyWhenLeft, "iterator", "RuntimeError: still at work"),
    (ForgetsTheLast, "rows", "answered 7 of 8 weights and stopped"),
    (AnswersTwice, "rows", "answered 8 of 8 weights and then another one"),
    (RaisesAtTheThird, "rows", "answered 2 of 8 weights and raised RuntimeError: out of memory"),
    (SolveItselfRaises, "rows", "answered 0 of 8 weights and raised RuntimeError"),
    (SkipsARepeatedWeight, "rows", "answered 7 of 8 weights and stopped"),
    (ScalesTheWeightsItIsGiven, "unchanged", r"row 0 .* was \(1, 0, 0\), .* is \(2, 0, 0\)"),
    (UsesOneBuffer, "kept", r"row 1 came with rewards \(0\.1, 0\.9, 0\.3\)"),
    (UsesOneBufferForWeights, "kept", r"row 1 came with weights \(0, 1, 0\)"),
    (SortsTheWeights, "order", r"row 0 is \(1, 0, 0\), its answer is for row 1, \(0, 1, 0\)"),
    (AnswersTuples, "answers", r"row 0, \(1, 0, 0\): the oracle yielded a tuple"),
    (NormalisesToTheLargest, "answers", r"row 3, .*weights = \(1, 1, 1\): must be \(0\.333333"),
    (RewardsOfTheWrongShape, "answers", r"must have shape \(3\), has \(2,\)"),
    (NotANumber, "answers", "must be finite numbers"),
    (NegativeRegularizer, "answers", r"regularizer = -0\.1: must be at least 0"),
    (InfoIsNotJson, "answers", "info must be plain JSON"),
    (PromptsOfAnotherPolicy, "prompts", r"rewards \(1, 0, 0\.2\) is not the mean of its 2"),
    (RegularizerNotThePromptMean, "prompts", r"regularizer \(0\.3\) is not the mean of its 2"),
    (OtherPromptsEachTime, "prompts", r"\[1, 2, 3, 4, 5, 6, 7, 8\] prompts, must be the same"),
    (DrawsFromOneStream, "deterministic", "gives another answer|has two answers"),
    (TiresWithEveryBatch, "deterministic", "the same batch again gives another answer: rewards"),
    (SeededByTheClock, "deterministic", r"an equal oracle gives another answer: regularizer 0\.3"),
    (NewIdEachTime, "deterministic", "gives another answer: id 'policy 1', then"),
    (AnswersARepeatOtherwise, "deterministic", r"\(1, 0, 0\) twice in one batch has two answers"),
    (NamedByRow, "ids", r"'policy \d' names two policies, at"),
    (OneNameForAll, "ids", r"'policy' names two policies, at \(1, 0, 0\) and \(0, 1, 0\)"),
    (SeededByRow, "batches", "asked in reverse order gives another answer: rewards"),
    (NormalisesOverTheBatch, "batches", r"alone .* regularizer 0\.0125, then 0\.1"),
    (FailsOnOneWeightAlone, "batches", "answered 0 of 1 weights and raised"),
    (ExceedsItsRewardBound, "bounds", r"1\.3 exceeds reward_bound = 1\.25"),
    (ExceedsItsRegularizerBound, "bounds", r"at \(1, 0, 0\) 0\.3 exceeds regularizer_bound"),
    (SecondBest, "optimality", "claims no epsilon and no delta"),
    (WorseThanItClaims, "optimality", r"claims epsilon = 0\.01 and delta = 0\.01"),
    (HoldsALock, "picklable", "the oracle cannot be sent to a worker: TypeError"),
    (AnswersStayHere, "picklable", "its answer cannot be sent to a worker: TypeError: a file"),
    (DoesNotArrive, "picklable", "does not arrive: RuntimeError: no GPU here"),
    (ForgetsItsSettings, "picklable", r"a copy answers otherwise: regularizer 0\.3, then 0\.2"),
]


def broken_rules(oracle: type, **settings: Any) -> dict[str, str]:
    """Every rule that ``oracle`` breaks, each looked at alone."""
    found = {}
    for rule in RULES:
        try:
            check_conformance(oracle, skip=set(RULES) - {rule}, **settings)
        except AssertionError as error:
            found[str(error).partition(":")[0]] = str(error)
    return found


class TestSoundOracles:
    def test_every_rule_holds(self) -> None:
        report = check_conformance(Sound)
        assert report.checked == tuple(RULES)
        assert report.skipped == {}
        assert report.objectives == Sound.objectives
        assert report.measured_epsilon == report.measured_delta == 0.0
        assert "16 rules hold for 3 objectives, 8 weights" in str(report)

    def test_the_report_counts_every_answer(self) -> None:
        calls = []

        class Counting(Sound):
            def answer(self, index: int, weights: NDArray[np.float64]) -> Any:
                calls.append(index)
                return super().answer(index, weights)

        report = check_conformance(Counting, skip=("picklable",))
        assert report.calls == len(calls) == 5 * len(report.weights) + 2

    def test_it_asks_for_vertices_centre_and_a_repeated_weight(self) -> None:
        weights = check_conformance(Sound).weights
        np.testing.assert_array_equal(weights[:3], np.eye(3))
        np.testing.assert_allclose(weights[3], 1 / 3)
        np.testing.assert_array_equal(weights[0], weights[-1])

    def test_own_weights(self) -> None:
        report = check_conformance(Sound, weights=[[0.2, 0.3, 0.5]])
        np.testing.assert_allclose(report.weights, [[0.2, 0.3, 0.5]] * 2)

    def test_what_is_optional_is_skipped_and_said(self) -> None:
        class Bare(Sound):
            fingerprint = reward_bound = regularizer_bound = None

            def answer(self, index: int, weights: NDArray[np.float64]) -> Any:
                full = super().answer(index, weights)
                return replace(full, prompt_rewards=None, prompt_regularizer=None)

        report = check_conformance(Bare, skip=["picklable"])
        assert dict(report.skipped) == {
            "fingerprint": "the oracle has none",
            "prompts": "no answer has values per prompt",
            "bounds": "the oracle claims none",
            "picklable": "left out",
        }
        assert "picklable skipped: left out" in str(report)

    def test_slack_that_is_claimed_is_allowed_and_measured(self) -> None:
        class Claiming(SecondBest):
            values = SecondBest.values / 2
            costs = SecondBest.costs / 2
            delta = 0.7

        report = check_conformance(Claiming, skip=["picklable"])
        values = np.array([policy.rewards - policy.regularizer for policy in report.policies])
        objective = report.weights @ values.T
        lost = objective.max(axis=1) - objective.diagonal()
        assert lost.max() > 0.1  # or there would be nothing to measure
        assert report.measured_delta == pytest.approx(lost.max())
        assert report.measured_epsilon == pytest.approx((lost / objective.max(axis=1)).max())

    @pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
    def test_values_of_any_size(self, scale: float) -> None:
        class Scaled(Sound):
            values = Sound.values * scale
            costs = Sound.costs * scale
            reward_bound = Sound.reward_bound * scale
            regularizer_bound = Sound.regularizer_bound * scale

            def answer(self, index: int, weights: NDArray[np.float64]) -> Any:
                return replace(
                    super().answer(index, weights), prompt_rewards=None, prompt_regularizer=None
                )

        check_conformance(Scaled, skip=["picklable"])

    @given(
        values=arrays(np.float64, (3, 4), elements=st.floats(-10, 10)),
        costs=arrays(np.float64, 3, elements=st.floats(0, 10)),
    )
    def test_the_best_of_any_finite_set_conforms(self, values: Any, costs: Any) -> None:
        class OfFinitely(Sound):
            objectives = ("a", "b", "c", "d")
            reward_bound = 40.0
            regularizer_bound = 10.0

            def answer(self, index: int, weights: NDArray[np.float64]) -> Any:
                best = int(np.argmax(values @ weights - costs))
                return Policy(
                    id=str(best), weights=weights, rewards=values[best], regularizer=costs[best]
                )

        report = check_conformance(OfFinitely, skip=["picklable"])
        assert report.measured_delta <= 1e-12


class TestBrokenOracles:
    @pytest.mark.parametrize(("oracle", "rule", "message"), BROKEN)
    def test_the_rule_is_named(self, oracle: type, rule: str, message: str) -> None:
        with pytest.raises(AssertionError, match=f"^{rule}: .*{message}") as caught:
            check_conformance(oracle)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(("oracle", "rule", "message"), BROKEN)
    def test_that_rule_alone_finds_it_too(self, oracle: type, rule: str, message: str) -> None:
        assert rule in broken_rules(oracle)

    def test_each_rule_has_an_oracle_that_breaks_it(self) -> None:
        assert {rule for _, rule, _ in BROKEN} == set(RULES)

    def test_the_cause_is_kept(self) -> None:
        with pytest.raises(AssertionError) as caught:
            check_conformance(RaisesAtTheThird)
        assert isinstance(caught.value.__cause__, RuntimeError)

    def test_a_tolerance_lets_noise_pass(self) -> None:
        with pytest.raises(AssertionError):
            check_conformance(SeededByRow)
        assert isinstance(check_conformance(SeededByRow, tolerance=0.01), ConformanceReport)


class TestArguments:
    @pytest.mark.parametrize("skip", ["picklable", ("pickle",), ["rows", "x"]])
    def test_skip_names_rules(self, skip: Any) -> None:
        with pytest.raises(InputError, match=r"skip = .*: must be names among attributes, claims"):
            check_conformance(Sound, skip=skip)

    def test_weights_of_the_wrong_dimension(self) -> None:
        with pytest.raises(InputError, match="must be 3, one per objective"):
            check_conformance(Sound, weights=[[0.5, 0.5]])

    def test_tolerance(self) -> None:
        with pytest.raises(InputError, match=r"tolerance = -1"):
            check_conformance(Sound, tolerance=-1)


class TestSound(OracleConformance):
    """The base class as a user has it: its tests are collected here."""

    def make_oracle(self) -> Any:
        return Sound()


class TestTheBaseClass:
    def test_one_test_per_rule(self) -> None:
        tests = [name for name in dir(OracleConformance) if name.startswith("test_")]
        assert sorted(tests) == sorted(f"test_{rule}" for rule in RULES)
        for rule in RULES:
            method = getattr(OracleConformance, f"test_{rule}")
            assert method.__name__ == f"test_{rule}"
            assert method.__doc__

    @pytest.mark.parametrize(("oracle", "rule", "message"), BROKEN)
    def test_its_tests_fail_where_the_rule_is_broken(
        self, oracle: type, rule: str, message: str
    ) -> None:
        class Conformance(OracleConformance):
            def make_oracle(self) -> Any:
                return oracle()

        with pytest.raises(AssertionError, match=f"^{rule}: "):
            getattr(Conformance(), f"test_{rule}")()

    def test_what_does_not_apply_is_a_skip(self) -> None:
        class Conformance(OracleConformance):
            skip = ("order",)

            def make_oracle(self) -> Any:
                return Sound()

        with pytest.raises(SkipTest, match="left out"):
            Conformance().test_order()

    def test_it_must_be_told_what_to_test(self) -> None:
        class Conformance(OracleConformance):
            pass

        with pytest.raises(NotImplementedError, match=r"Conformance must define make_oracle\(\)"):
            Conformance().test_order()

    def test_all_tests_share_one_oracle(self) -> None:
        made = []

        class Conformance(OracleConformance):
            def make_oracle(self) -> Any:
                made.append(1)
                return Sound()

        for rule in ("rows", "order", "answers", "ids", "batches"):
            getattr(Conformance(), f"test_{rule}")()
        assert len(made) == 1

    def test_pytest_runs_it_as_documented(self, tmp_path: Path) -> None:
        (tmp_path / "test_mine.py").write_text(
            "from palm_core import Policy\n"
            "from palm_core.testing import OracleConformance\n"
            "class Mine:\n"
            "    objectives = ('a', 'b')\n"
            "    def solve(self, weights):\n"
            "        for w in weights:\n"
            "            yield Policy(id='one', weights=w, rewards=[1.0, 0.5])\n"
            "class TestMine(OracleConformance):\n"
            "    def make_oracle(self):\n"
            "        return Mine()\n"
        )
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout
        assert "13 passed, 3 skipped" in ran.stdout


def test_importing_the_suite_needs_no_test_library() -> None:
    code = (
        "import sys, palm_core.testing\n"
        "print([m for m in ('pytest', 'hypothesis', 'unittest') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
