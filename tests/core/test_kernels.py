from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palm_core import (
    PolicySet,
    best_policies,
    cover_weights,
    greedy,
    sample_weights,
    uniform_lattice,
)
from palm_core.geometry import kernels as _kernels
from palm_core.model import policy as policy_module


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@given(st.integers(0, 500), st.integers(1, 70), st.integers(1, 6))
def test_ranges_make_up_the_whole_and_begin_at_grains(count: int, grain: int, threads: int) -> None:
    seen: list[tuple[int, int]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_kernels, "n_threads", lambda: threads)
        _kernels.in_parallel(lambda *ends: seen.append(ends), count, grain=grain)
    seen.sort()
    assert seen[0][0] == 0
    assert seen[-1][1] == count
    assert all(a[1] == b[0] and b[0] % grain == 0 for a, b in itertools.pairwise(seen))


def test_work_is_shared_by_threads_and_its_failure_is_raised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_kernels, "n_threads", lambda: 2)
    both_here = threading.Barrier(2, timeout=60)

    def meet(first: int, last: int) -> None:
        if first < 2:
            both_here.wait()

    _kernels.in_parallel(meet, 8, grain=1)

    def fail(first: int, last: int) -> None:
        if first == 5:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        _kernels.in_parallel(fail, 8, grain=1)


def test_threads_follow_the_environment() -> None:
    code = "from palm_core.geometry import kernels as _kernels; print(_kernels.n_threads())"
    assert run(code, NUMBA_NUM_THREADS="1") == "1\n"


@given(st.integers(1, 9), st.integers(0, 2**16))
def test_ones_are_counted(n_words: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    row, mask = rng.integers(0, 2**64, (2, n_words), np.uint64)
    assert _kernels.ones_in(row, mask) == np.bitwise_count(row & mask).sum()
    full = np.full(n_words, ~np.uint64(0))
    assert _kernels.ones_in(full, full) == 64 * n_words


@given(st.integers(2, 6), st.sampled_from([1, 2, 31, 33, 64, 201]), st.integers(0, 2**16))
def test_groups_hold_every_policy_under_its_bound(d: int, m: int, seed: int) -> None:
    u = np.random.default_rng(seed).normal(size=(m, d))
    groups = policy_module._groups(u)
    assert set(groups.order) == set(range(m))
    assert len(groups.order) == m + m % 2
    np.testing.assert_array_equal(groups.u, u[groups.order])
    for g, start in enumerate(range(0, len(groups.order), _kernels.GROUP)):
        inside = slice(start, start + _kernels.GROUP)
        assert (groups.u[inside] <= groups.bounds[g]).all()
        assert (np.diff(groups.order[inside]) >= 0).all()
        assert groups.lowest[g] == groups.order[inside].min()


def test_groups_are_of_neighbours() -> None:
    """What makes skipping pay: groups span far less than everyone does."""
    u = np.random.default_rng(0).uniform(size=(4096, 2))
    groups = policy_module._groups(u)
    spans = np.ptp(groups.u.reshape(-1, _kernels.GROUP, 2), axis=1)
    assert np.median(spans) < 0.2


TINY = """
import numpy as np
from palm_core.cover import cover
from palm_core.model import policy as policy_module
from palm_core.geometry import kernels as _kernels
from palm_core.weights.grid import construct_grid
from palm_core.model.policy import PolicySet
policy_module._FEW_PAIRS, policy_module._WORTH_A_THREAD = 0, 1
_kernels.n_threads = lambda: 2
for d in (2, 3):
    weights = construct_grid(d, 1.0, 0.5)
    rng = np.random.default_rng(d)
    policies = PolicySet(rng.uniform(size=(7, d)))
    made = cover.cover_weights(policies, weights, mu=0.1)
    print(weights.tolist(), made.best.values.tolist(), made.best.indices.tolist())
    print(made.matrix().astype(int).tolist(), made.counts().tolist(), cover.greedy(made).tolist())
"""


def test_kernels_are_plain_python_too() -> None:
    """With the compiler switched off (to measure coverage) nothing changes."""
    plain = run(
        "import warnings; from palm_core import PalmWarning\n"
        "warnings.simplefilter('ignore', PalmWarning)\n"  # that it is slow
        + TINY
        + "assert type(_kernels.ones_in).__name__ == 'function'",
        NUMBA_DISABLE_JIT="1",
    )
    assert plain == run(TINY, NUMBA_DISABLE_JIT="0")


def test_a_forked_child_computes_after_its_parent_has() -> None:
    # Numba's own thread layers end the child ("fork() … is unsafe") or hang it.
    code = """
import os, numpy as np
from palm_core.cover import cover
from palm_core.model import policy as policy_module
from palm_core.geometry import kernels as _kernels
from palm_core.model.policy import PolicySet
from palm_core.weights.simplex import sample_weights
_kernels.n_threads, policy_module._WORTH_A_THREAD = (lambda: 2), 1
policies, weights = PolicySet(np.sqrt(sample_weights(2000, 3))), sample_weights(4000, 3, seed=1)
before = cover.cover_weights(policies, weights, mu=0.01).bits
child = os.fork()
if child == 0:
    same = np.array_equal(cover.cover_weights(policies, weights, mu=0.01).bits, before)
    os._exit(0 if same else 3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    run(code, OPENBLAS_NUM_THREADS="1")


def test_several_threads_may_call_at_once() -> None:
    policies = PolicySet(np.sqrt(sample_weights(1200, 3)))
    weights = sample_weights(2000, 3, seed=1)
    alone = greedy(cover_weights(policies, weights, mu=0.01))
    with ThreadPoolExecutor(4) as pool:
        jobs = [
            pool.submit(lambda: greedy(cover_weights(policies, weights, mu=0.01))) for _ in range(8)
        ]
        for job in jobs:
            np.testing.assert_array_equal(job.result(timeout=120), alone)


@pytest.mark.parametrize("d", [12, 40])
def test_many_objectives(d: int) -> None:
    rng = np.random.default_rng(d)
    policies, weights = PolicySet(rng.uniform(size=(300, d))), uniform_lattice(d, 2)
    values = sum(np.multiply.outer(weights[:, i], policies.rewards[:, i]) for i in range(d))
    best = best_policies(policies, weights)
    np.testing.assert_array_equal(best.values, np.max(values, axis=1))
    np.testing.assert_array_equal(best.indices, np.argmax(values, axis=1))
