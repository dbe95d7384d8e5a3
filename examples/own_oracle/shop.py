"""An oracle of one's own: which prices to ask, between profit and market share.

A policy is a vector of prices; nothing here knows of PALM but ``Policy``.
"""

import numpy as np

from palm_core import Policy

COSTS = np.array([1.0, 2.0, 4.0])


class Shop:
    """Finds the best prices for a weight vector of profit and share."""

    objectives = ("profit", "share")
    reward_bound = 2.0

    def solve(self, weights):
        """Yield one policy per weight vector: here by trying every price."""
        for w in weights:
            prices = COSTS[:, None] + np.linspace(0, 3, 301)
            share = np.exp(-(prices - COSTS[:, None])) / 3
            profit = (prices - COSTS[:, None]) * share
            best = np.argmax(w[0] * profit + w[1] * share, axis=1)
            rewards = [values[range(3), best].sum() for values in (profit, share)]
            margin = "-".join(f"{p:.2f}" for p in prices[range(3), best])
            yield Policy(id=f"prices {margin}", weights=w, rewards=rewards)
