"""Inference with a policy and its reference: loading, sampling, KL divergence.

Token t of the s-th response to a prompt is the inverse of the distribution function of
π(·|x, y_<t) at a uniform number, which a counter-based generator (Philox) gives for a BLAKE2
digest of (seed, x, s). So a response does not depend on its batch, and two policies use the
same random numbers: similar policies give similar responses, and the standard error of their
difference is smaller than that of each (common random numbers).

Logits differ by rounding between batches: a response may differ where a random number is within
rounding of a boundary, at one token in about a million (float32).

KL(π ‖ π_ref) is computed over the whole vocabulary at each step, and by the estimator k1.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections import Counter
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from palm_core import InputError, WorkError
from palm_core.plugin import error_reason
from palm_eval.plugin import (
    Source,
    check_memory,
    device_of,
    dtype_of,
    end_tokens,
    in_batches,
    load_causal,
    load_tokenizer,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from palm_trl.options import GrpoSettings


@dataclass(frozen=True)
class Base:
    """π_ref: model, tokenizer and device.

    Attributes:
        model: a transformers model on ``device``, without generation settings.
        tokenizer: the model's.
        ends: the tokens that end a response.
        device: the model's.
    """

    model: Any
    tokenizer: Any
    ends: frozenset[int]
    device: torch.device

    @property
    def context(self) -> int | None:
        """The context length, if the configuration has one."""
        found = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return found if isinstance(found, int) and found > 0 else None


class Policy:
    """The policy π to measure.

    Attributes:
        model: gives the logits of π.
        reference: gives the logits of π_ref inside :meth:`as_reference`; ``None`` if π is
            π_ref.
    """

    def __init__(self, model: Any, reference: Any, without: Any = nullcontext) -> None:
        self.model, self.reference, self._without = model, reference, without

    def as_reference(self) -> AbstractContextManager[object]:
        """Disable the adapter, if there is one."""
        found: AbstractContextManager[object] = self._without()
        return found


def load_base(settings: GrpoSettings) -> Base:
    """Load the oracle's model and tokenizer.

    Raises:
        InputError: one of them cannot be loaded.
        WorkError: not enough memory.
    """
    device = device_of(settings.device)
    tokenizer = load_tokenizer(f"tokenizer of {settings.model!r}", settings.tokenizer_source)
    model = load_causal(
        f"model = {settings.model!r}", settings.source, device, dtype_of(settings.dtype)
    )
    ends = end_tokens(tokenizer, [model])
    return Base(_plain(model), tokenizer, ends, device)


@contextmanager
def loaded_policy(settings: GrpoSettings, base: Base, folder: Path | None) -> Iterator[Policy]:
    """Load π from ``folder`` on top of ``base``; restore ``base`` afterwards.

    Args:
        settings: for the dtype.
        base: π_ref.
        folder: of an adapter or a full model; ``None`` for π_ref itself.

    Raises:
        InputError: there is neither in ``folder``, or it does not fit the base.
        WorkError: not enough memory.
    """
    if folder is None:
        yield Policy(base.model, None)
    elif (folder / "adapter_config.json").is_file():
        adapted = _with_adapter(base.model, folder)
        try:
            yield Policy(base.model, base.model, adapted.disable_adapter)
        finally:
            adapted.unload()
    elif (folder / "config.json").is_file():
        place = f"policy {str(folder)!r}"
        model = _plain(
            load_causal(place, Source(str(folder)), base.device, dtype_of(settings.dtype))
        )
        yield Policy(model, base.model)
    else:
        raise InputError(
            f"policy {str(folder)!r}: must be a folder with adapter_config.json or config.json"
        )


def _plain(model: Any) -> Any:
    # Defaults of generation, such as penalties and top-k of the model's authors: clear them.
    settings: Any = GenerationConfig  # its initializer has no types
    model.generation_config = settings()
    return model.eval()


def _with_adapter(model: Any, folder: Path) -> Any:
    from peft import PeftModel

    try:
        with warnings.catch_warnings():
            # peft uses a deprecated name of transformers: no warning for users
            warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
            return PeftModel.from_pretrained(model, str(folder)).eval()
    except Exception as error:
        check_memory(f"policy {str(folder)!r}", error)
        raise InputError(
            f"policy {str(folder)!r}: must be an adapter of the oracle's model: "
            f"{error_reason(error)}"
        ) from error


class Wanted(NamedTuple):
    """A response to sample: the prompt's tokens and the sample's number."""

    prompt: tuple[int, ...]
    sample: int


def wanted_of(prompts: Sequence[Sequence[int]], samples: int) -> list[Wanted]:
    """``samples`` responses to each prompt; duplicate prompts get different samples."""
    seen: Counter[tuple[int, ...]] = Counter()
    found = []
    for prompt in map(tuple, prompts):
        found += [Wanted(prompt, seen[prompt] + sample) for sample in range(samples)]
        seen[prompt] += samples
    return found


def uniforms(seed: int, wanted: Wanted, count: int) -> NDArray[np.float64]:
    """(count,) numbers in (0, 1) for the tokens of a response; a prefix of a longer sequence."""
    words = np.array([seed, wanted.sample, *wanted.prompt], dtype="<i8")
    digest = blake2b(words.tobytes(), digest_size=16, person=b"palm-trl measure").digest()
    philox = np.random.Philox(key=int.from_bytes(digest, "little"))
    # Raw bits: NumPy guarantees their stability across versions, not that of numbers.
    bits = np.asarray(philox.random_raw(count), dtype=np.uint64)
    # Midpoints of 2^52 intervals: neither 0 nor 1.
    middles: NDArray[np.float64] = ((bits >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    return middles


def inverse(logits: Tensor, temperature: float, uniform: Tensor) -> Tensor:
    """(rows,) the least token k with F(k) > u, F of softmax(logits/T); none of probability 0.

    Args:
        logits: (rows, V); V is the model's, as in training: if it exceeds the tokenizer's
            vocabulary, the other ids are sampled too, as in TRL.
        temperature: T > 0.
        uniform: (rows,) u in (0, 1), float64.
    """
    shares = (logits.double() / temperature).softmax(dim=-1).cumsum(dim=-1)
    found = torch.searchsorted(shares, (uniform * shares[:, -1]).unsqueeze(1), right=True)
    return found.squeeze(1).clamp(max=logits.shape[-1] - 1)


class _Draw(LogitsProcessor):
    """Restricts greedy decoding to the sampled token."""

    def __init__(self, uniform: Tensor, temperature: float, width: int) -> None:
        self._uniform, self._temperature, self._width = uniform, temperature, width

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """(rows, V) 0 at the sampled token, −∞ elsewhere."""
        if not scores.amax(dim=-1).isfinite().all():
            raise WorkError(
                f"the policy's prediction after {input_ids.shape[1] - self._width} tokens of a "
                "response is not a number: training may have diverged"
            )
        uniform = self._uniform[:, input_ids.shape[1] - self._width]
        drawn = inverse(scores, self._temperature, uniform).unsqueeze(1)
        return torch.full_like(scores, -torch.inf).scatter(1, drawn, 0.0)


def draw(
    model: Any,
    wanted: Sequence[Wanted],
    *,
    seed: int,
    temperature: float,
    new_tokens: int,
    ends: Collection[int],
    rows: int,
) -> list[tuple[int, ...]]:
    """Sample a response for each of ``wanted``: its tokens, including the end token.

    Args:
        model: a transformers model with empty generation settings.
        wanted: in any order.
        seed: of sampling.
        temperature: T > 0; the only change of the distribution.
        new_tokens: maximum tokens of a response.
        ends: tokens that end one.
        rows: batch size; reduced if memory runs out.

    Raises:
        WorkError: not enough memory for one row, or logits that are NaN.
    """
    device = model.get_input_embeddings().weight.device
    plain: Any = GenerationConfig  # its initializer has no types
    settings = plain(
        do_sample=False,
        max_new_tokens=new_tokens,
        eos_token_id=sorted(ends) or None,
        pad_token_id=0,  # masked, and removed
        disable_compile=True,
    )

    def some(batch: Sequence[Wanted]) -> list[tuple[int, ...]]:
        width = max(len(one.prompt) for one in batch)
        ids = [[0] * (width - len(one.prompt)) + list(one.prompt) for one in batch]
        mask = [[0] * (width - len(one.prompt)) + [1] * len(one.prompt) for one in batch]
        uniform = np.stack([uniforms(seed, one, new_tokens) for one in batch])
        with torch.inference_mode():
            found = model.generate(
                input_ids=torch.tensor(ids, device=device),
                attention_mask=torch.tensor(mask, device=device),
                generation_config=settings,
                logits_processor=LogitsProcessorList(
                    [_Draw(torch.tensor(uniform, device=device), temperature, width)]
                ),
            )
        return [_until_end(row, ends) for row in found[:, width:].tolist()]

    # Sort by length, for little padding.
    order = sorted(range(len(wanted)), key=lambda place: len(wanted[place].prompt))
    drawn = in_batches([wanted[place] for place in order], rows, some)
    found: list[tuple[int, ...]] = [()] * len(wanted)
    for place, tokens in zip(order, drawn, strict=True):
        found[place] = tokens
    return found


def _until_end(tokens: Sequence[int], ends: Collection[int]) -> tuple[int, ...]:
    for place, token in enumerate(tokens):
        if token in ends:
            return tuple(tokens[: place + 1])
    return tuple(tokens)


# Size of a batch of logits, and of the part processed in float64: on a CPU the size of its
# caches, nearly three times as fast.
_LOGITS, _PART, _PART_ON_CPU = 2**27, 2**24, 2**18


class Nats(NamedTuple):
    """KL of a response in nats: summed over steps and the whole vocabulary, and by k1."""

    full: float
    k1: float


def divergences(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    *,
    temperature: float,
    rows: int,
) -> list[Nats]:
    """KL of each response over all its tokens; exactly 0 if π is π_ref.

    Args:
        policy: π and π_ref.
        prompts: tokens, one for each response.
        responses: tokens, at least one each.
        temperature: T > 0, of both.
        rows: batch size; reduced for long responses, and if memory runs out.

    Raises:
        WorkError: not enough memory for one row, or a KL that is not finite.
    """
    if policy.reference is None:
        return [Nats(0.0, 0.0)] * len(responses)
    vocabulary = policy.model.config.get_text_config().vocab_size
    # Sort by length, for little padding.
    order = sorted(
        range(len(responses)), key=lambda place: (len(prompts[place]), len(responses[place]))
    )

    def fitting(left: Sequence[int]) -> int:
        held = 0
        for count, place in enumerate(left[:rows]):
            shortest = len(prompts[left[0]])
            held = max(held, len(prompts[place]) - shortest + len(responses[place]))
            if (count + 1) * held * vocabulary > _LOGITS:
                return count
        return rows

    @torch.inference_mode()
    def some(places: Sequence[int]) -> list[Nats]:
        given = [(prompts[place], responses[place]) for place in places]
        ours = _logits(policy.model, given)
        with policy.as_reference():
            theirs = _logits(policy.reference, given)
        return [
            _nats(one, other, response, temperature)
            for one, other, (_, response) in zip(ours, theirs, given, strict=True)
        ]

    measured = in_batches(order, fitting, some)
    found = [Nats(0.0, 0.0)] * len(responses)
    for place, nats in zip(order, measured, strict=True):
        found[place] = nats
    for place, nats in enumerate(found):
        if not all(map(math.isfinite, nats)):
            raise WorkError(
                f"the KL of response {place} is {nats.full:g}: must be finite; training may have "
                "diverged, lower the learning rate or raise beta"
            )
    return found


def _logits(model: Any, given: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Tensor]:
    """For each prompt and response (T, V) logits: before each token of the response."""
    whole = [[*prompt, *response[:-1]] for prompt, response in given]
    width = max(map(len, whole))
    device = model.get_input_embeddings().weight.device
    # Padding on the right is safe: no used position follows it.
    inputs: dict[str, Any] = {
        "input_ids": torch.tensor([row + [0] * (width - len(row)) for row in whole]).to(device),
        "attention_mask": torch.tensor(
            [[1] * len(row) + [0] * (width - len(row)) for row in whole]
        ).to(device),
        "use_cache": False,
    }
    first = min(len(prompt) for prompt, _ in given) - 1
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        inputs["logits_to_keep"] = width - first
    logits: Tensor = model(**inputs).logits
    left_out = width - logits.shape[1]
    found = []
    for row, (prompt, response) in enumerate(given):
        start = len(prompt) - 1 - left_out
        found.append(logits[row, start : start + len(response)])
    return found


def _nats(ours: Tensor, theirs: Tensor, response: Sequence[int], temperature: float) -> Nats:
    size = max(1, (_PART_ON_CPU if ours.device.type == "cpu" else _PART) // ours.shape[1])
    tokens = torch.tensor(response, device=ours.device)
    full = along = 0.0
    for start in range(0, len(response), size):
        part = slice(start, start + size)
        log_p = (ours[part].double() / temperature).log_softmax(dim=-1)
        log_q = (theirs[part].double() / temperature).log_softmax(dim=-1)
        p = log_p.exp()
        # 0·log 0 = 0
        steps = torch.where(p == 0, 0.0, p * (log_p - log_q)).sum(dim=-1)
        full += float(steps.clamp(min=0.0).sum())
        drawn = tokens[part].unsqueeze(1)
        along += float((log_p.gather(1, drawn) - log_q.gather(1, drawn)).sum())
    return Nats(full, along)
