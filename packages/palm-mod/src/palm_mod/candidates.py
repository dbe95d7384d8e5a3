"""Tokens that some weights may choose: few of a vocabulary, found without any weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from palm_mod.mixing import Mixing

# So many likely tokens are tried, whether they beat others; more of them where many are left.
_RIVALS = 4
_MORE_RIVALS = 16
_LEFT = 512
# A lead that float32 does not lose, relative to the numbers in play.
_SAFE = 2.0**-12


def contenders(log_probs: Tensor, sums: Tensor, mixing: Mixing) -> tuple[Tensor, Tensor]:
    """The tokens of each row that may be the best or the second best for some weights.

    A score increases in every model's log-probability, so a token that two others beat in all
    of them, by more than float32 rounds, is neither. Token 0 stays: it is chosen where all
    are forbidden.

    Args:
        log_probs: (n, d, V) of all models that scores depend on.
        sums: (n, d) log-probabilities of the prefix.
        mixing: how scores are made.

    Returns:
        (n, d, c) their log-probabilities, −∞ at the end of rows that have fewer; (n, c) which
        they are, ascending, 0 at the end.
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
    """(n,) what rounding is relative to, besides the log-probabilities themselves."""
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
    # Far below a rival, the lead itself is larger than what is lost.
    level = level - _SAFE * (rounding[:, None, None] + level.abs())
    beaten = torch.zeros(n, size, dtype=torch.int8, device=log_probs.device)
    for rival in range(rivals.shape[1]):
        beats = log_probs[:, 0] <= level[:, 0, rival, None]
        for i in range(1, d):
            beats &= log_probs[:, i] <= level[:, i, rival, None]
        beaten += beats
    return beaten < 2
