"""Prefix tree decoding: all weights, with one forward pass for each distinct prefix.

All weight vectors start at the prompt. Where their best next tokens differ, their group is
split; those with equal tokens stay together. So a language model runs once for each distinct
prefix, and every weight vector gets the tokens that it would get alone.

Groups are split by a *splitter*: of individual weight vectors (:class:`WeightSplitter`) or of
whole regions (:mod:`palm_mod.regions`).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import torch

from palm_core import InputError, WorkError
from palm_core.plugin import check_count
from palm_eval.plugin import halved, out_of_memory, release
from palm_mod.mixing import Mixing, choose

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

# How many likely tokens are compared with all others; more of them where many are left.
_RIVALS = 4
_MORE_RIVALS = 16
_LEFT = 512
# The least margin that float32 rounding preserves, relative to the compared values.
_SAFE = 2.0**-12


def contenders(log_probs: Tensor, sums: Tensor, mixing: Mixing) -> tuple[Tensor, Tensor]:
    """Tokens of each row that may be the best or second best for some weights.

    A score increases in every model's log-probability, so a token that two others beat in all
    of them, by more than float32 rounding, is neither. Token 0 is always included: it is
    chosen where all are forbidden.

    Args:
        log_probs: (n, d, V) of all models on which scores depend.
        sums: (n, d) log-probabilities of the prefix.
        mixing: how scores are made.

    Returns:
        (n, d, c) their log-probabilities, rows padded with −∞; (n, c) the tokens, ascending,
        padded with 0.
    """
    rounding = _rounding(sums, mixing).to(log_probs.device)
    kept = _unbeaten(log_probs, rounding, _RIVALS)
    for row in (kept.sum(dim=1) > _LEFT).nonzero().flatten().tolist():
        some = kept[row].nonzero().flatten()
        one = slice(row, row + 1)
        kept[row, some] = _unbeaten(log_probs[one, :, some], rounding[one], _MORE_RIVALS)[0]
    kept[:, 0] = True
    counts = kept.sum(dim=1)
    rows, tokens = kept.nonzero(as_tuple=True)
    starts = counts.cumsum(dim=0) - counts
    places = torch.arange(len(rows), device=rows.device) - starts[rows]
    most = int(counts.max())
    which = torch.zeros(len(kept), most, dtype=torch.long, device=kept.device)
    which[rows, places] = tokens
    left = log_probs.gather(2, which.unsqueeze(1).expand(-1, log_probs.shape[1], -1))
    missing = torch.arange(most, device=kept.device) >= counts.unsqueeze(1)
    return left.masked_fill(missing.unsqueeze(1), -torch.inf), which


def _rounding(sums: Tensor, mixing: Mixing) -> Tensor:
    """(n,) scale of rounding errors, besides the log-probabilities themselves."""
    finite = sums.isfinite()
    spread = torch.where(finite, sums, -torch.inf).amax(dim=1)
    spread = spread - torch.where(finite, sums, torch.inf).amin(dim=1)
    fixed = 1.0 + (1.0 / mixing.power if mixing.power else 0.0)
    return torch.where(spread.isfinite(), spread, 0.0).float() + fixed


def _unbeaten(log_probs: Tensor, rounding: Tensor, n_rivals: int) -> Tensor:
    """(n, V): whether fewer than two of the likeliest tokens on average beat a token."""
    n, d, size = log_probs.shape
    rivals = log_probs.mean(dim=1).topk(min(n_rivals, size)).indices
    level = log_probs.gather(2, rivals.unsqueeze(1).expand(-1, d, -1))
    # Far below a rival, the margin itself exceeds the rounding error.
    level = level - _SAFE * (rounding[:, None, None] + level.abs())
    beaten = torch.zeros(n, size, dtype=torch.int8, device=log_probs.device)
    for rival in range(rivals.shape[1]):
        beats = log_probs[:, 0] <= level[:, 0, rival, None]
        for i in range(1, d):
            beats &= log_probs[:, i] <= level[:, i, rival, None]
        beaten += beats
    return beaten < 2


M = TypeVar("M")


class Prefixes(Protocol):
    """The state of all experts at a batch of prefixes, as :meth:`Models.start` makes it."""

    #: (n, d, V) log-probabilities of the next token, normalised, float32; where there is a
    #: reference, it is the last of d + 1. (Raw logits where ``Mixing.raw_logits`` asks so.)
    log_probs: Tensor

    def step(self, parents: Tensor, tokens: Tensor) -> Prefixes:
        """Extend the prefixes ``parents`` (r,) by ``tokens`` (r,); consumes this object."""
        ...


class Models(Protocol):
    """The d experts, and optionally a reference, with a common vocabulary."""

    n_experts: int
    has_reference: bool

    @property
    def names(self) -> Sequence[str]:
        """The names of the experts and, last, of the reference, if there is one."""
        ...

    def start(self, prefixes: Sequence[Sequence[int]]) -> Prefixes:
        """Run the models on non-empty prefixes of any lengths."""
        ...


class Splitter(Protocol[M]):
    """Splits the members of a prefix by their best next token."""

    def split(
        self, log_probs: Tensor, sums: Tensor, members: Sequence[M]
    ) -> list[list[tuple[int, M, float]]]:
        """For each prefix the tokens that are best for some of its members.

        Args:
            log_probs: (n, d [+ 1], V) float32, of the next token.
            sums: (n, d [+ 1]) float64, of the prefix.
            members: the members of each of the n prefixes.

        Returns:
            For each prefix (token, the members for which it is the best, the least margin
            over another token among them).
        """
        ...

    def count(self, members: M, /) -> int:
        """The number of separate decodings that the members replace."""
        ...


@dataclass(frozen=True)
class Limits:
    """Limits on the length of responses and on the prefixes in memory.

    Args:
        end_tokens: tokens that end a response; they are part of it.
        new_tokens: maximum tokens of a response.
        total: maximum tokens of prompt and response together, or ``None``.
        rows: maximum prefixes whose caches are in memory at once; others wait as tokens
            and are recomputed (counted in :attr:`Counts.read_again`).
        stop: from a prompt's number and the tokens so far, whether the response is
            complete (for example at a stop string); or ``None``.

    Raises:
        InputError: a limit that is not a whole number in its range.
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
    """A response, and the members that produce it.

    Args:
        prompt: the prompt's number.
        tokens: the response's tokens, including the end token.
        members: the members that produce it.
        ended: by an end token or ``stop``; otherwise it was truncated.
        log_probs: Σ over its tokens of each expert's log-probability (d [+ 1],).
        margin: the least margin of any of its tokens over another, among all members with
            that prefix: a lower bound for the members of this leaf.
    """

    prompt: int
    tokens: tuple[int, ...]
    members: M
    ended: bool
    log_probs: tuple[float, ...]
    margin: float


@dataclass
class Counts:
    """Cost of decoding: rows are prefixes on which the models ran, one token each.

    Args:
        rows: each distinct prefix counted once, whatever :attr:`Limits.rows`.
        alone: the rows needed to decode each member separately.
        read_again: evicted prefixes that :meth:`Models.start` recomputed.
        tokens_read_again: the tokens of those, including their prompts'.
        most_held: the most prefixes whose caches were in memory at once.
        most_waiting: the most prefixes that waited, as tokens.
        least_margin: the least :attr:`Leaf.margin`.
        steps: how often the models were run.
        halvings: how often memory ran out.
    """

    rows: int = 0
    alone: int = 0
    read_again: int = 0
    tokens_read_again: int = 0
    most_held: int = 0
    most_waiting: int = 0
    least_margin: float = math.inf
    steps: int = 0
    halvings: int = 0


class _Node(NamedTuple, Generic[M]):
    """A prefix and its members; ``sums`` are the experts' log-probabilities so far."""

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
    on_complete: Callable[[Leaf[M]], None] | None = None,
    progress: Callable[[Counts, int], None] | None = None,
) -> tuple[list[Leaf[M]], Counts]:
    """Decode all members of each prompt, sharing prefixes.

    Prefixes beyond ``limits.rows`` wait as tokens, last in, first out. With T new
    tokens at most, R rows and at most c children of a prefix, no more than
    (number of prompts) + (T − 1)·R·(c − 1) prefixes wait, and never more than there are members:
    those waiting have at most T − 1 different bounds on the tokens left to them, and with
    the same bound there are at most R·c − R.

    If memory runs out, the current prefixes wait as tokens, R is halved, and decoding continues.

    Args:
        models: the experts.
        prompts: token ids, at least one each.
        members: the members to decode for each prompt.
        splitter: splits members by their best next token.
        limits: on the length of responses and the prefixes in memory.
        noise: from a prompt's number, the tokens so far and a device, (V,) values that are
            added to all log-probabilities of the next token (see
            :mod:`palm_mod.sampling`); ``None`` decodes greedily.
        on_complete: callback for each response as soon as it is complete.
        progress: callback after each step, with the cost so far and the number of active
            prefixes. An exception of either callback ends decoding and is passed on;
            responses already reported to ``on_complete`` remain valid.

    Returns:
        The responses, by prompt, in the order of their tokens; and the cost.

    Raises:
        InputError: an empty prompt, or one with no tokens left for a response.
        WorkError: a model's prediction is NaN, or a single row does not fit in memory.
    """
    _check(prompts, members, limits)
    counts, leaves = Counts(), []
    nothing = (0.0,) * (models.n_experts + models.has_reference)
    waiting: deque[_Node[M]] = deque(
        _Node(number, (), group, nothing, math.inf) for number, group in enumerate(members)
    )
    rows = limits.rows
    while waiting:
        counts.most_waiting = max(counts.most_waiting, len(waiting))
        held = [waiting.popleft() for _ in range(min(rows, len(waiting)))]
        state: Prefixes | None = None
        move: tuple[Tensor, Tensor] | None = None
        while held:
            short = False
            try:
                if state is None or move is None:
                    state = models.start([[*prompts[node.prompt], *node.tokens] for node in held])
                    _count_again(counts, held, prompts)
                else:
                    state = state.step(*move)
                _check_numbers(state.log_probs, held, models)
                grown, parents, tokens = _children(state.log_probs, held, splitter, noise)
            except Exception as error:
                if not out_of_memory(error):
                    raise
                rows, short = halved(min(rows, len(held)), error), True
            if short:
                # Outside the except block, where no traceback refers to tensors, they can be freed.
                state = move = None
                release()
                counts.halvings += 1
                waiting.extendleft(reversed(held))
                break
            counts.rows += len(held)
            counts.steps += 1
            counts.most_held = max(counts.most_held, len(held))
            finished, on = _finished(grown, prompts, limits)
            for leaf in finished:
                counts.alone += len(leaf.tokens) * splitter.count(leaf.members)
                counts.least_margin = min(counts.least_margin, leaf.margin)
                leaves.append(leaf)
                if on_complete is not None:
                    on_complete(leaf)
            kept, aside = on[:rows], on[rows:]
            # Last in, first out: the deepest waiting prefixes are taken first, so that few wait.
            waiting.extendleft(grown[place] for place in reversed(aside))
            held = [grown[place] for place in kept]
            keep = torch.tensor(kept, dtype=torch.long, device=parents.device)
            move = parents[keep], tokens[keep]
            if progress is not None:
                progress(counts, len(held) + len(waiting))
    leaves.sort(key=lambda leaf: (leaf.prompt, leaf.tokens))
    return leaves, counts


def _check(prompts: Sequence[Sequence[int]], members: Sequence[M], limits: Limits) -> None:
    if len(prompts) != len(members):
        raise InputError(f"members: {len(members)} groups, must be {len(prompts)}, one per prompt")
    for number, prompt in enumerate(prompts):
        if not len(prompt):
            raise InputError(f"prompt {number}: has no tokens, must have at least one")
        if limits.total is not None and len(prompt) >= limits.total:
            raise InputError(
                f"prompt {number}: {len(prompt)} tokens leave no room for a response, must be "
                f"below total = {limits.total}"
            )


def _count_again(
    counts: Counts, held: Sequence[_Node[M]], prompts: Sequence[Sequence[int]]
) -> None:
    again = [node for node in held if node.tokens]
    counts.read_again += len(again)
    counts.tokens_read_again += sum(len(prompts[node.prompt]) + len(node.tokens) for node in again)


def _check_numbers(log_probs: Tensor, held: Sequence[_Node[M]], models: Models) -> None:
    # The maximum is NaN where any value is.
    bad = log_probs.amax(dim=-1).isnan()
    if bad.any():
        row, model = bad.nonzero()[0].tolist()
        node = held[row]
        raise WorkError(
            f"{models.names[model]}: its prediction for prompt {node.prompt} after "
            f"{len(node.tokens)} tokens is not a number"
        )


def _children(
    log_probs: Tensor,
    held: Sequence[_Node[M]],
    splitter: Splitter[M],
    noise: Callable[[int, Sequence[int], Any], Tensor] | None,
) -> tuple[list[_Node[M]], Tensor, Tensor]:
    """The extended prefixes, the indices of their parents, and their last tokens."""
    sums = torch.tensor([node.sums for node in held], dtype=torch.float64)
    heard = log_probs
    if noise is not None:
        added = [noise(node.prompt, node.tokens, log_probs.device) for node in held]
        heard = log_probs + torch.stack(added).unsqueeze(1)
    found = splitter.split(heard, sums, [node.members for node in held])
    split = [
        (place, token, members, margin)
        for place, children in enumerate(found)
        for token, members, margin in children
    ]
    parents, tokens = (
        torch.tensor([child[part] for child in split], dtype=torch.long, device=log_probs.device)
        for part in (0, 1)
    )
    gained = log_probs[parents, :, tokens].double().cpu().tolist()
    grown = []
    for (place, token, members, margin), gain in zip(split, gained, strict=True):
        node = held[place]
        total = tuple(a + b for a, b in zip(node.sums, gain, strict=True))
        least = min(node.margin, margin)
        grown.append(_Node(node.prompt, (*node.tokens, token), members, total, least))
    return grown, parents, tokens


def _finished(
    grown: Sequence[_Node[M]], prompts: Sequence[Sequence[int]], limits: Limits
) -> tuple[list[Leaf[M]], list[int]]:
    """The complete responses, and the indices of the prefixes that continue."""
    finished, on = [], []
    for place, node in enumerate(grown):
        ended = node.tokens[-1] in limits.end_tokens or (
            limits.stop is not None and limits.stop(node.prompt, node.tokens)
        )
        length = len(node.tokens)
        full = length >= limits.new_tokens or (
            limits.total is not None and len(prompts[node.prompt]) + length >= limits.total
        )
        if ended or full:
            finished.append(
                Leaf(node.prompt, node.tokens, node.members, ended, node.sums, node.margin)
            )
        else:
            on.append(place)
    return finished, on


# Maximum size of one intermediate array.
_BLOCK = 8_000_000
# From this many weight vectors on a prefix, tokens that are best for none are pruned first.
_MANY = 4


class WeightSplitter:
    """Splits groups of weight vectors, given by their indices in ``weights``.

    Args:
        weights: (k, d) on the simplex.
        mixing: how scores are made.
    """

    def __init__(self, weights: NDArray[np.float64], mixing: Mixing) -> None:
        self.weights = torch.from_numpy(np.ascontiguousarray(weights, dtype=np.float64))
        self.mixing = mixing

    def count(self, members: tuple[int, ...]) -> int:
        """One decoding for each weight vector."""
        return len(members)

    def split(
        self, log_probs: Tensor, sums: Tensor, members: Sequence[tuple[int, ...]]
    ) -> list[list[tuple[int, tuple[int, ...], float]]]:
        """See :class:`palm_mod.prefix_tree.Splitter`; tokens ascend."""
        models = self.weights.shape[1] + self.mixing.needs_reference
        values, sums = log_probs[:, :models], sums[:, :models]
        sizes = np.array([len(group) for group in members])
        which = np.fromiter(chain.from_iterable(members), np.intp, sizes.sum())
        rows = np.repeat(np.arange(len(members)), sizes)
        tokens, margins = np.empty(len(which), np.intp), np.empty(len(which))
        many = sizes >= _MANY
        if many.any():
            wide = torch.from_numpy(np.flatnonzero(many))
            here = many[rows]
            # Indices among the rows that are wide.
            own = (np.cumsum(many) - 1)[rows[here]]
            left, kept = contenders(values[wide.to(values.device)], sums[wide], self.mixing)
            places, margins[here] = self._choose(left, sums[wide], own, which[here])
            tokens[here] = kept.cpu().numpy()[own, places]
        here = ~many[rows]
        if here.any():
            tokens[here], margins[here] = self._choose(values, sums, rows[here], which[here])
        ends = np.cumsum(sizes)
        return [
            _groups(tokens[end - size : end], margins[end - size : end], group)
            for group, size, end in zip(members, sizes, ends, strict=True)
        ]

    def _choose(
        self, values: Tensor, sums: Tensor, rows: NDArray[np.intp], which: NDArray[np.intp]
    ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Token indices (m,) and margins (m,) of the weight vectors ``which`` at their ``rows``."""
        places, margins = np.empty(len(which), np.intp), np.empty(len(which))
        size = max(1, _BLOCK // values[0].numel())
        for start in range(0, len(which), size):
            here = slice(start, start + size)
            index = torch.from_numpy(rows[here])
            scores = self.mixing.scores(
                values[index.to(values.device)],
                self.weights[torch.from_numpy(which[here])],
                sums[index],
            )
            best, lead = choose(scores)
            places[here], margins[here] = best.cpu().numpy(), lead.double().cpu().numpy()
        return places, margins


def _groups(
    tokens: NDArray[np.intp], margins: NDArray[np.float64], group: tuple[int, ...]
) -> list[tuple[int, tuple[int, ...], float]]:
    if not group:
        return []
    if (tokens == tokens[0]).all():
        return [(int(tokens[0]), group, float(margins.min()))]
    found = []
    order = np.argsort(tokens, kind="stable")
    starts = np.flatnonzero(np.diff(tokens[order], prepend=-1))
    for places in np.split(order, starts[1:]):
        kept = tuple(group[place] for place in places)
        found.append((int(tokens[places[0]]), kept, float(margins[places].min())))
    return found
