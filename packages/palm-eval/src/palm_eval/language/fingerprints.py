"""What tells one oracle of language models from another."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from palm_eval.language.reward_tables import identity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from palm_eval.language.prompt_files import Prompts
    from palm_eval.language.sources import Source
    from palm_eval.rewards.base import RewardFunction


def fingerprint_of(
    kind: str,
    *,
    models: Iterable[Source | None],
    prompts: Iterable[Prompts],
    rewards: Mapping[str, RewardFunction],
    settings: Mapping[str, Any],
) -> str:
    """Changes with the content of models, prompts and rewards, and with any setting.

    Args:
        kind: of oracle.
        models: in a fixed order, ``None`` for one that is not given.
        prompts: likewise.
        rewards: by objective, in their order.
        settings: all that answers depend on, as plain values.

    Raises:
        InputError: a model that is not there.
    """
    told = {
        "kind": kind,
        "models": [None if source is None else source.identity for source in models],
        "prompts": [one.fingerprint for one in prompts],
        "rewards": [[name, identity(function)] for name, function in rewards.items()],
        "settings": dict(settings),
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()
