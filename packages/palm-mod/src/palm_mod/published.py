"""The arithmetic of the code published with MOD, for comparisons with its results.

``f_value`` and ``greedy_search`` of the authors' repository (srzer/MOD, experiment-DPO)
decode like :mod:`palm_mod.mixing`, but for four things:

* a_i is made of *raw logits* l_i, not of log-probabilities: s_i = Σ over the prefix of the
  logits of its tokens, plus the next one's. With l_i = log π_i + c_i(prefix) the constants
  c_i cancel between tokens for reverse KL only. For forward KL and α they act like
  weights w_i·e^(−α·Σ c_i) that nobody chose and that drift along the prefix.
* Jensen–Shannon ("jsd") is decoded as reverse KL.
* The reference runs at every step and is not used.
* α's score lacks the factor 1/α, which changes no order (here it is there, so that margins
  compare).

Two tokens, w = (0.5, 0.5), forward KL. Expert 1's logits are (6, 5), expert 2's (0, 2):

* as published, −log(½e^−6 + ½e^−0) = 0.69 and −log(½e^−5 + ½e^−2) = 2.64: token 1;
* with 10 added to both of expert 2's logits, which is the same model, 6.68 and 5.69: token 0;
* with log-probabilities, (−0.31, −1.31) and (−2.13, −0.13) whatever is added,
  −log(½e^0.31 + ½e^2.13) = −1.58 and −log(½e^1.31 + ½e^0.13) = −0.89: token 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from palm_mod.mixing import Mixing


@dataclass(frozen=True)
class PublishedMixing(Mixing):
    """Mixing as the published code does it, on raw logits (see :mod:`palm_mod.published`).

    Takes the place of a :class:`palm_mod.mixing.Mixing`, its arguments are the same; what is
    called ``log_probs`` there are the models' raw logits, and ``sums`` the sums of those.
    Ties go to the lowest token and the arithmetic is float32, where the published code
    leaves ties open and takes the models' dtype.
    """

    raw_logits: ClassVar[bool] = True

    @property
    def needs_reference(self) -> bool:
        """Never: even Jensen–Shannon is decoded without it."""
        return False
