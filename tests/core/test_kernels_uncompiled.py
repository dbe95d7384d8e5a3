"""The kernels as the plain Python that they are: the same sets, where coverage can see them."""

from __future__ import annotations

import os
import subprocess
import sys

CODE = """
import warnings
import numpy as np
from palm_core import PalmWarning; from palm_core.cover import cover
from palm_core.model import policy as policy_module
warnings.simplefilter("ignore", PalmWarning)  # that it is slow
from palm_core.geometry import kernels as _kernels
from palm_core.model.policy import PolicySet
from palm_core.cover.reductions import Core, packed, transposed, unpacked
from palm_core.weights.simplex import uniform_lattice

assert type(_kernels.inclusions).__name__ == "function"
rng = np.random.default_rng(0)

# more rows and columns than a word has bits, an empty row and equal ones
table = rng.random((70, 66)) < 0.1
table[3], table[5] = False, table[4]
bits = packed(table)
assert (unpacked(transposed(bits, 66), 70) == table.T).all()

core = Core.of(packed(np.vstack([table, np.eye(66, dtype=bool)])), 66)
matrix, sizes = core.matrix(), core.matrix().sum(axis=1)
for sets in (matrix, matrix.T):
    inside = (sets[:, None] & ~sets[None]).any(axis=2)
    np.fill_diagonal(inside, True)
    assert inside.all(), "no row is left inside another, no column around another"

policy_module._FEW_PAIRS, policy_module._WORTH_SORTING = 0, 0
policies = PolicySet(rng.uniform(size=(67, 3)) ** 0.3, rng.uniform(size=67) * 0.1)
weights = uniform_lattice(3, 12)
values = policies.objective(weights)
best = policy_module.best_policies(policies, weights)
assert np.allclose(best.values, values.max(axis=1), rtol=0, atol=1e-14)
made = cover.cover_weights(policies, weights, mu=0.02, best=best)
assert (made.matrix() == (values >= 0.98 * values.max(axis=1)[:, None] - 1e-13).T).all()
assert (made.counts() == made.matrix().sum(axis=1)).all()
chosen = cover.greedy(made)
assert made.matrix()[chosen].any(axis=0).all()
assert chosen[0] == made.matrix().sum(axis=1).argmax()
"""


def test_uncompiled_kernels_compute_what_numpy_does() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CODE],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
