"""Measuring a policy of a run again, on more prompts or others; nothing is trained."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from palm_core.errors import InputError
from palm_trl.answering import policy_of
from palm_trl.measured_models import load_base
from palm_trl.measuring import measure

if TYPE_CHECKING:
    from pathlib import Path

    from palm_core import Policy
    from palm_trl.measured_models import Base
    from palm_trl.settings import GrpoSettings

#: π_ref of what was asked before: small policies measure faster than it loads.
_LOADED: WeakKeyDictionary[GrpoSettings, Base] = WeakKeyDictionary()


def remeasured(
    settings: GrpoSettings,
    policy: Policy,
    *,
    artifact: Path,
    prompts: int,
    samples: int | None = None,
) -> Policy:
    """The same policy, with what it is worth on the first ``prompts`` of the evaluation's source.

    Args:
        settings: of the oracle that answered it.
        policy: of a run.
        artifact: its folder.
        prompts: at least 1, and as many as there are at most.
        samples: responses to each; ``None`` as in the run.

    Raises:
        InputError: there are not so many prompts, or no model in ``artifact``.
        WorkError: measuring failed.
    """
    given = settings.more_prompts(prompts)
    if not artifact.is_dir():
        raise InputError(f"policy {policy.id!r}: {str(artifact)!r} is no folder, must be its model")
    base = _LOADED.get(settings)
    if base is None:
        base = _LOADED[settings] = load_base(settings)
    found = measure(settings, artifact, given, samples=samples, base=base)
    start = policy.info.get("start")
    again = policy_of(settings, policy.weights, found, policy.artifact, start)
    return replace(again, id=policy.id, info={**policy.info, **again.info})
