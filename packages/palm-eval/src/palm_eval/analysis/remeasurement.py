"""Remeasurement: the policies of a run measured by its oracle on more prompts.

Nothing is trained. An oracle that supports it has a method

    remeasure(policy, *, artifact: Path, prompts: int) -> Policy

that returns the same policy with its rewards and f on the first ``prompts`` prompts of its
evaluation source. Each policy is measured once: results are cached in the run's folder.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from palm_core import InputError, OracleAnswerError, Policy
from palm_core.plugin import (
    ARTIFACTS,
    check_answer,
    check_count,
    locate_artifact,
    one_line,
    read_bounded,
    verify_artifact,
    write_atomically,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from palm_core import Oracle, Run
    from palm_core.plugin import Artifact

    Notify = Callable[[str], None]

#: The folder of remeasurements in a run's folder, by the number of prompts.
FOLDER = "measured"
#: The largest file in bytes.
LARGEST_FILE = 256 * 1024 * 1024


class Measured(msgspec.Struct, forbid_unknown_fields=True):
    """A policy as it was measured again; the file of it."""

    policy: str
    rewards: list[float]
    regularizer: float
    reward_errors: list[float] | None
    prompt_rewards: list[list[float]] | None
    prompt_regularizer: list[float] | None
    info: dict[str, Any]


class Remeasurer:
    """Measures policies again, each once, with a cache in a run's folder.

    Args:
        oracle: must have a method ``remeasure``.
        folder: of the run.
        objectives: d names.
        name: the oracle's name in messages.
        fingerprint: of the oracle; cached results of another one are measured again.
        prompts: their number, at least 2: a single prompt has no standard error.
        notify: callback with one line for each measured policy.

    Attributes:
        count: the number of requested policies.

    Raises:
        InputError: an oracle that cannot measure again, or too few prompts.
    """

    def __init__(
        self,
        oracle: Oracle,
        folder: Path,
        objectives: tuple[str, ...],
        *,
        name: str,
        fingerprint: str | None,
        prompts: int,
        notify: Notify | None = None,
    ) -> None:
        self.prompts = check_count(prompts, name="prompts", least=2)
        if not callable(getattr(oracle, "remeasure", None)):
            raise InputError(
                f"--prompts: oracle {name!r} has no method remeasure and cannot measure a policy "
                "again, must be omitted"
            )
        self.folder = folder / FOLDER / str(prompts)
        self.count = 0
        self._oracle: Any = oracle
        self._objectives, self._fingerprint, self._notify = objectives, fingerprint, notify
        self._known: dict[Path, Policy] = {}

    def again(self, policy: Policy, artifacts: Path, sealed: Artifact | None = None) -> Policy:
        """``policy`` with rewards and f on these prompts.

        Args:
            policy: as measured before.
            artifacts: the folder to which its artifact's path is relative.
            sealed: the recorded artifact, if there is one.

        Raises:
            InputError: its artifact is missing or has changed; a cached file is damaged;
                the oracle refuses it.
            WorkError: the measurement failed.
            OracleAnswerError: the result is not a policy, or is another policy.
        """
        file = self.folder / f"{self._digest(policy)}.json"
        if file not in self._known:
            self.count += 1
            if not file.exists():
                self._measure(policy, file, artifacts, sealed)
            self._known[file] = self._read(policy, file)
        return replace(self._known[file], weights=policy.weights)

    @property
    def sentence(self) -> str:
        """A summary of the remeasurement, on one line."""
        return (
            f"Measured again, baselines included: {self.count} policies on {self.prompts} prompts "
            f"(kept in {one_line(self.folder)})."
        )

    def document(self) -> dict[str, Any]:
        """The summary as plain values."""
        return {
            "prompts": self.prompts,
            "policies": self.count,
            "folder": str(self.folder),
        }

    def _measure(
        self, policy: Policy, file: Path, artifacts: Path, sealed: Artifact | None
    ) -> None:
        place = _place(policy, artifacts)
        wrong = None if sealed is None else verify_artifact(artifacts, sealed)
        if wrong is not None:
            raise InputError(f"policy {policy.id!r}: cannot be measured again: {wrong}")
        began = time.monotonic()
        found = self._oracle.remeasure(policy, artifact=place, prompts=self.prompts)
        found = check_answer(found, policy.weights, self._objectives)
        if found.id != policy.id:
            raise OracleAnswerError(
                f"policy {policy.id!r}: was measured again as {found.id!r}, must be the same"
            )
        kept = Measured(
            policy=found.id,
            rewards=found.rewards.tolist(),
            regularizer=found.regularizer,
            reward_errors=_list(found.reward_errors),
            prompt_rewards=_list(found.prompt_rewards),
            prompt_regularizer=_list(found.prompt_regularizer),
            info=dict(found.info),
        )
        write_atomically(file, msgspec.json.encode(kept) + b"\n")
        if self._notify is not None:
            seconds = time.monotonic() - began
            self._notify(f"measured {policy.id} on {self.prompts} prompts, {seconds:.3g} s")

    def _read(self, policy: Policy, file: Path) -> Policy:
        data = read_bounded(file, LARGEST_FILE, kind="measured policy")
        try:
            kept = msgspec.json.decode(data, type=Measured)
            found = replace(
                policy,
                id=kept.policy,
                rewards=np.array(kept.rewards),
                regularizer=kept.regularizer,
                reward_errors=_array(kept.reward_errors),
                prompt_rewards=_array(kept.prompt_rewards),
                prompt_regularizer=_array(kept.prompt_regularizer),
                info=kept.info,
            )
            return check_answer(found, policy.weights, self._objectives)
        except (msgspec.DecodeError, ValueError, RecursionError, OracleAnswerError) as error:
            raise InputError(
                f"{one_line(file)}: must be a measured policy: {one_line(error, 200)}; delete it "
                "to measure the policy again"
            ) from error

    def _digest(self, policy: Policy) -> str:
        """Digest of the policy and the oracle, to detect stale cached results."""
        content = [self._fingerprint, policy.id, policy.rewards.tolist(), policy.regularizer]
        return hashlib.sha256(msgspec.json.encode(content)).hexdigest()[:32]


def measured_run(run: Run, folder: Path, remeasurer: Remeasurer) -> Run:
    """The run with all its policies remeasured.

    Raises:
        InputError: as :meth:`Remeasurer.again`: all policies or none, since measurements on
            different prompts cannot be compared.
    """
    answers = [
        replace(
            answer,
            policy=remeasurer.again(answer.policy, folder / ARTIFACTS, answer.artifact),
        )
        for answer in run.answers
    ]
    return replace(run, answers=tuple(answers))


class MeasuredOracle:
    """An oracle whose answers are remeasured.

    Args:
        oracle: the wrapped oracle.
        artifacts: the folder of its artifacts.
        remeasurer: measures them.
    """

    def __init__(self, oracle: Oracle, artifacts: Path, remeasurer: Remeasurer) -> None:
        self.objectives = oracle.objectives
        self._oracle, self._artifacts, self._remeasurer = oracle, artifacts, remeasurer

    def solve(self, weights: NDArray[np.float64]) -> Iterator[Policy]:
        """Yield one policy per row of ``weights`` (k, d), remeasured."""
        for row, policy in zip(weights, self._oracle.solve(weights), strict=False):
            checked = check_answer(policy, row, self.objectives)
            yield self._remeasurer.again(checked, self._artifacts)


def _place(policy: Policy, artifacts: Path) -> Path:
    given = policy.artifact
    if given is None or "://" in given:
        what = "has no artifact" if given is None else f"lies at {one_line(given, 100)}"
        raise InputError(f"policy {policy.id!r}: {what}, cannot be measured again")
    if Path(given).is_absolute():
        if not Path(given).exists():
            raise InputError(
                f"policy {policy.id!r}: there is no {one_line(given, 200)}, cannot be measured "
                "again"
            )
        return Path(given)
    try:
        return locate_artifact(artifacts, given)
    except InputError as error:
        raise InputError(f"policy {policy.id!r}: cannot be measured again: {error}") from error


def _list(values: NDArray[np.float64] | None) -> Any:
    return None if values is None else values.tolist()


def _array(values: Any) -> NDArray[np.float64] | None:
    return None if values is None else np.array(values, dtype=np.float64)
