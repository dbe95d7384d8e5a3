"""The shared forest: every weighting decoded, with one forward pass for each distinct prefix.

All weight vectors start at the prompt. Where their best next tokens differ, their group is
split; those that agree go on together. So a language model runs once for each distinct
prefix, and every weighting gets the tokens that it would get alone.

What agrees with what is a matter of the *splitter*: weight vectors one by one
(:mod:`palm_mod.splitters`) or all of a region at once (:mod:`palm_mod.regions`).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import torch

from palm_core.errors import InputError
from palm_core.simplex import check_count

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

M = TypeVar("M")


class Prefixes(Protocol):
    """The state of all experts at a batch of prefixes, as :meth:`Models.start` makes it."""

    #: (n, d, V) log-probabilities of the next token, normalised, float32; where there is a
    #: reference, it is the last of d + 1.
    log_probs: Tensor

    def step(self, parents: Tensor, tokens: Tensor) -> Prefixes:
        """The prefixes that continue ``parents`` (r,) by ``tokens`` (r,); this one is used up."""
        ...


class Models(Protocol):
    """d experts, and perhaps a reference, that share a vocabulary."""

    n_experts: int
    has_reference: bool

    def start(self, prefixes: Sequence[Sequence[int]]) -> Prefixes:
        """Read prefixes of any lengths, at least one token each."""
        ...


class Splitter(Protocol[M]):
    """Divides what shares a prefix by its best next token."""

    def split(self, totals: Tensor, members: Sequence[M]) -> list[list[tuple[int, M, float]]]:
        """For each prefix the tokens that are best for some of its members.

        Args:
            totals: (n, d [+ 1], V) float32, see :meth:`palm_mod.mixing.Mixing.scores`.
            members: what shares each of the n prefixes.

        Returns:
            For each prefix (token, those members for which it is the best, the least lead
            that it has over another token among them).
        """
        ...

    def count(self, members: M) -> int:
        """As how many decodings alone the members count."""
        ...


@dataclass(frozen=True)
class Limits:
    """When a response ends, and how much is held at once.

    Args:
        end_tokens: each of them ends a response and stays in it.
        new_tokens: the most tokens of a response.
        total: the most tokens of prompt and response together, or ``None``.
        rows: the most prefixes whose caches are held at once; what is beyond waits as
            tokens and is read again (its number is in :attr:`Counts.read_again`).
        stop: given a prompt's number and the tokens so far, whether the response is
            complete (a stop string has appeared, say); or ``None``.
    """

    end_tokens: frozenset[int] = frozenset()
    new_tokens: int = 128
    total: int | None = None
    rows: int = 64
    stop: Callable[[int, Sequence[int]], bool] | None = None

    def __post_init__(self) -> None:
        check_count(self.new_tokens, name="new_tokens", least=1)
        check_count(self.rows, name="rows", least=1)
        if self.total is not None:
            check_count(self.total, name="total", least=2)


@dataclass(frozen=True)
class Leaf(Generic[M]):
    """A response, and the members that give it.

    Args:
        prompt: the prompt's number.
        tokens: the response's tokens, with what ended it.
        members: who gives it.
        ended: by an end token or ``stop``; otherwise its length was the limit.
        log_probs: Σ over its tokens of each expert's log-probability (d [+ 1],).
        margin: the least lead of any of its tokens over another, for any member.
    """

    prompt: int
    tokens: tuple[int, ...]
    members: M
    ended: bool
    log_probs: tuple[float, ...]
    margin: float


@dataclass
class Counts:
    """What decoding cost: rows are prefixes that the models ran on, one token each.

    ``alone``: the rows that decoding each member by itself would have run.
    ``read_again``: prefixes that had been put aside and were read anew, in rows; their
    tokens are ``tokens_read_again``.
    """

    rows: int = 0
    alone: int = 0
    read_again: int = 0
    tokens_read_again: int = 0
    most_held: int = 0
    least_margin: float = math.inf
    steps: int = field(default=0)


@dataclass(frozen=True)
class _Node(Generic[M]):
    """A prefix that members share; ``sums`` are the experts' log-probabilities so far."""

    prompt: int
    tokens: tuple[int, ...]
    members: M
    sums: tuple[float, ...]
    margin: float


def grow(
    models: Models,
    prompts: Sequence[Sequence[int]],
    members: Sequence[M],
    splitter: Splitter[M],
    limits: Limits,
    *,
    noise: Callable[[int, Sequence[int], Any], Tensor] | None = None,
    told: Callable[[Leaf[M]], None] | None = None,
) -> tuple[list[Leaf[M]], Counts]:
    """Decode all members of each prompt, sharing prefixes.

    Args:
        models: the experts.
        prompts: token ids, at least one each.
        members: who is decoded for each prompt.
        splitter: tells members apart.
        limits: when a response ends, and how many prefixes are held at once.
        noise: given a prompt's number, the tokens so far and a device, (V,) values that are
            added to all log-probabilities of the next token (see
            :mod:`palm_mod.sampling`); ``None`` decodes greedily.
        told: is told of each response as soon as it is complete.

    Returns:
        The responses, by prompt, in the order of their tokens; and what it cost.

    Raises:
        InputError: an empty prompt, or one that leaves no room for a response.
    """
    if len(prompts) != len(members):
        raise InputError(f"{len(members)} groups of members for {len(prompts)} prompts")
    for number, prompt in enumerate(prompts):
        if not len(prompt):
            raise InputError(f"prompt {number}: has no tokens, must have at least one")
        if limits.total is not None and len(prompt) >= limits.total:
            raise InputError(
                f"prompt {number}: {len(prompt)} tokens leave no room for a response in a total "
                f"of {limits.total}"
            )
    experts = models.n_experts + models.has_reference
    counts, leaves = Counts(), []
    waiting: deque[_Node[M]] = deque(
        _Node(number, (), group, (0.0,) * experts, math.inf)
        for number, group in enumerate(members)
    )

    def finish(node: _Node[M], *, ended: bool) -> None:
        leaf = Leaf(node.prompt, node.tokens, node.members, ended, node.sums, node.margin)
        counts.alone += len(node.tokens) * splitter.count(node.members)
        counts.least_margin = min(counts.least_margin, node.margin)
        leaves.append(leaf)
        if told is not None:
            told(leaf)

    while waiting:
        # Depth first: what was put aside last is taken up first, so that few wait.
        held = [waiting.popleft() for _ in range(min(limits.rows, len(waiting)))]
        state = models.start([[*prompts[node.prompt], *node.tokens] for node in held])
        again = [node for node in held if node.tokens]
        counts.read_again += len(again)
        counts.tokens_read_again += sum(
            len(prompts[node.prompt]) + len(node.tokens) for node in again
        )
        while held:
            counts.rows += len(held)
            counts.steps += 1
            counts.most_held = max(counts.most_held, len(held))
            totals = _totals(state.log_probs, held, models)
            if noise is not None:
                added = [noise(n.prompt, n.tokens, totals.device) for n in held]
                totals = totals + torch.stack(added).unsqueeze(1)
            children = splitter.split(totals, [node.members for node in held])
            going, parents, tokens = [], [], []
            for place, (node, split) in enumerate(zip(held, children, strict=True)):
                for token, kept, margin in split:
                    grown = _Node(
                        node.prompt,
                        (*node.tokens, token),
                        kept,
                        node.sums,
                        min(node.margin, margin),
                    )
                    going.append(grown)
                    parents.append(place)
                    tokens.append(token)
            index = torch.tensor(parents, device=state.log_probs.device)
            chosen = torch.tensor(tokens, device=state.log_probs.device)
            gained = state.log_probs[index, :, chosen].double().cpu().tolist()
            going = [
                _Node(
                    node.prompt,
                    node.tokens,
                    node.members,
                    tuple(a + b for a, b in zip(node.sums, gain, strict=True)),
                    node.margin,
                )
                for node, gain in zip(going, gained, strict=True)
            ]
            on: list[int] = []
            for place, node in enumerate(going):
                ended = _ended(node, limits)
                if ended or _full(node, len(prompts[node.prompt]), limits):
                    finish(node, ended=ended)
                else:
                    on.append(place)
            kept_on, aside = on[: limits.rows], on[limits.rows :]
            waiting.extendleft(going[place] for place in reversed(aside))
            held = [going[place] for place in kept_on]
            if held:
                keep = torch.tensor(kept_on, device=index.device)
                state = state.step(index[keep], chosen[keep])
    leaves.sort(key=lambda leaf: (leaf.prompt, leaf.tokens))
    return leaves, counts


def _totals(log_probs: Tensor, held: Sequence[_Node[Any]], models: Models) -> Tensor:
    """a_i less a constant for each prefix, which changes no order: (n, d [+ 1], V)."""
    sums = torch.tensor([node.sums for node in held], dtype=torch.float64)
    # Relative to the reference or to the likeliest expert: small numbers, for float32.
    base = sums[:, -1:] if models.has_reference else sums.amax(dim=1, keepdim=True)
    return log_probs + (sums - base).float().to(log_probs.device).unsqueeze(-1)


def _ended(node: _Node[Any], limits: Limits) -> bool:
    if node.tokens[-1] in limits.end_tokens:
        return True
    return limits.stop is not None and limits.stop(node.prompt, node.tokens)


def _full(node: _Node[Any], prompt: int, limits: Limits) -> bool:
    length = len(node.tokens)
    return length >= limits.new_tokens or (
        limits.total is not None and prompt + length >= limits.total
    )
