"""The API for oracles of language models: models, prompts, memory, estimates, rewards.

What a package may import of palm-eval beside the names of :mod:`palm_eval` itself. Names are
loaded when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_core.plugin import on_demand

if TYPE_CHECKING:
    from palm_eval.commands.common import oracle_of
    from palm_eval.lm.causal_models import (
        Responder,
        device_of,
        dtype_of,
        end_tokens,
        has_tokenizer,
        load_causal,
        load_tokenizer,
    )
    from palm_eval.lm.estimates import Sized, computing, downloads, gigabytes, judges_of, sized
    from palm_eval.lm.memory import (
        check_memory,
        free_bytes,
        halved,
        in_batches,
        out_of_memory,
        release,
    )
    from palm_eval.lm.prompts import FORMATS, Encoded, prompts_of
    from palm_eval.lm.sources import (
        Source,
        fingerprint_of,
        located,
        source_identity,
        source_of,
        tokenizer_identity,
    )
    from palm_eval.polygons import clip, heights, overlap, place, share
    from palm_eval.report.sentences import headline, lead, proof
    from palm_eval.rewards.base import RewardFunction, called, check_scores, columns_of


__all__ = [
    "FORMATS",
    "Encoded",
    "Responder",
    "RewardFunction",
    "Sized",
    "Source",
    "called",
    "check_memory",
    "check_scores",
    "clip",
    "columns_of",
    "computing",
    "device_of",
    "downloads",
    "dtype_of",
    "end_tokens",
    "fingerprint_of",
    "free_bytes",
    "gigabytes",
    "halved",
    "has_tokenizer",
    "headline",
    "heights",
    "in_batches",
    "judges_of",
    "lead",
    "load_causal",
    "load_tokenizer",
    "located",
    "oracle_of",
    "out_of_memory",
    "overlap",
    "place",
    "prompts_of",
    "proof",
    "release",
    "share",
    "sized",
    "source_identity",
    "source_of",
    "tokenizer_identity",
]

if not TYPE_CHECKING:  # a type checker would treat every attribute as defined
    __getattr__, __dir__ = on_demand(__name__)
