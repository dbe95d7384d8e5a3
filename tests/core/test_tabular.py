"""The exact oracle against brute force, and the task tables it works on."""

from __future__ import annotations

from contextlib import suppress
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palm_core import InputError, TabularOracle, sample_weights, theorem_bounds
from palm_core.oracles.protocol import claims
from palm_core.oracles.tabular import load
from palm_core.oracles.task_table import TaskTable, make_task, read_task, save_task
from palm_core.plugin import check_answer, check_oracle


@st.composite
def tables(draw, *, signed=True):
    """A small random task: rewards, reference (zeros in it), prompt weights, seed."""
    seed = draw(st.integers(0, 2**32 - 1))
    prompts, responses, d = draw(st.tuples(st.integers(1, 4), st.integers(1, 7), st.integers(2, 4)))
    rng = np.random.default_rng(seed)
    rewards = rng.random((prompts, responses, d))
    if draw(st.booleans()):  # ties
        rewards = np.round(rewards, 1)
    if signed and draw(st.booleans()):
        rewards = 10 * rewards - 5
    reference = rng.dirichlet(np.full(responses, draw(st.sampled_from([0.05, 1.0]))), prompts)
    reference[reference < 1e-12] = 0.0
    if draw(st.booleans()) and responses > 1:
        reference[:, draw(st.integers(0, responses - 1))] = 0.0
    reference = np.where(reference.sum(axis=1, keepdims=True) > 0, reference, 1.0)
    reference /= reference.sum(axis=1, keepdims=True)
    weights = rng.dirichlet(np.ones(prompts)) if draw(st.booleans()) else None
    return rewards, reference, weights, rng


def direct_j(policy, rewards, reference, beta, prompt_weights, w):
    """J_w by the definition, one response at a time."""
    n_prompts = len(rewards)
    c = np.full(n_prompts, 1 / n_prompts) if prompt_weights is None else prompt_weights
    total = 0.0
    for x in range(n_prompts):
        for y in range(rewards.shape[1]):
            p, q = policy[x, y], reference[x, y]
            if p > 0:
                assert q > 0
                total += c[x] * p * (rewards[x, y] @ w - beta * np.log(p / q))
    return total


@given(tables(), st.sampled_from([1e-3, 0.05, 1.0, 100.0]))
def test_no_other_policy_is_better(table, beta):
    rewards, reference, prompt_weights, rng = table
    oracle = TabularOracle(rewards, reference, beta, prompt_weights=prompt_weights)
    w = rng.dirichlet(np.ones(rewards.shape[2]))
    policy = next(oracle.solve(w))
    value = oracle.value(w)[0]
    scale = np.abs(rewards).max() + beta
    # the value is attained, by the numbers reported and by the definition
    assert policy.rewards @ w - policy.regularizer == pytest.approx(value, abs=1e-13 * scale)
    own = oracle.probabilities(w)
    np.testing.assert_allclose(own.sum(axis=1), 1.0, atol=1e-14)
    j = direct_j(own, rewards, reference, beta, prompt_weights, w)
    assert j == pytest.approx(value, abs=1e-12 * scale)
    # and no other policy exceeds it, far or near
    other = TabularOracle(rewards, reference, beta * 1.1, prompt_weights=prompt_weights)
    elsewhere = rng.dirichlet(np.ones(rewards.shape[2]))
    rivals = [reference, other.probabilities(w), oracle.probabilities(elsewhere)]
    for _ in range(5):
        noise = rng.dirichlet(np.ones(rewards.shape[1]), len(rewards)) * (reference > 0)
        noise += 1e-9 * reference
        rivals.append(noise / noise.sum(axis=1, keepdims=True))
    for rival in rivals:
        for step in (1.0, 0.01):
            mixed = (1 - step) * own + step * rival
            j = direct_j(mixed, rewards, reference, beta, prompt_weights, w)
            assert j <= value + 1e-12 * scale


@given(tables(), st.sampled_from([0.05, 1.0]))
def test_policy_fields(table, beta):
    rewards, reference, prompt_weights, rng = table
    oracle = TabularOracle(rewards, reference, beta, prompt_weights=prompt_weights)
    assert check_oracle(oracle) == oracle.objectives
    w = rng.dirichlet(np.ones(rewards.shape[2]))
    policy = check_answer(next(oracle.solve(w)), w, oracle.objectives)
    p = oracle.probabilities(w)
    c = np.full(len(p), 1 / len(p)) if prompt_weights is None else prompt_weights
    np.testing.assert_allclose(
        policy.rewards, np.einsum("x,xy,xyd->d", c, p, rewards), rtol=1e-12, atol=1e-12
    )
    ratio = np.divide(p, reference, where=p > 0, out=np.ones_like(p))
    kl = (p * np.log(ratio)).sum(axis=1)
    assert policy.regularizer == pytest.approx(beta * c @ kl, abs=1e-12)
    assert policy.regularizer >= 0
    if prompt_weights is None:
        np.testing.assert_allclose(policy.prompt_regularizer, beta * kl, atol=1e-12)
        np.testing.assert_allclose(policy.prompt_rewards.mean(axis=0), policy.rewards, atol=1e-14)
        assert policy.prompt_regularizer.mean() == pytest.approx(policy.regularizer, abs=1e-14)
    else:  # resampling them as equally likely would be wrong
        assert policy.prompt_rewards is None
        assert policy.prompt_regularizer is None


@given(tables(), st.sampled_from([1e-2, 0.05, 1.0, 1e3]))
def test_claimed_bounds_hold(table, beta):
    rewards, reference, prompt_weights, rng = table
    oracle = TabularOracle(rewards, reference, beta, prompt_weights=prompt_weights)
    claim = claims(oracle)
    assert (claim.epsilon, claim.delta) == (0.0, 0.0)
    d = rewards.shape[2]
    slack = 1e-12 * (1 + np.abs(rewards).max())
    for policy in oracle.solve(np.vstack([np.eye(d), rng.dirichlet(np.full(d, 0.5), 5)])):
        assert np.abs(policy.rewards).sum() <= claim.reward_bound + slack
        assert policy.regularizer <= claim.regularizer_bound + slack


@given(tables(signed=False))
def test_reward_bound_is_attained(table):
    rewards, reference, prompt_weights, _ = table
    oracle = TabularOracle(rewards, reference, prompt_weights=prompt_weights)
    total = np.where(reference > 0, rewards.sum(axis=2), -1.0)
    c = np.full(len(rewards), 1 / len(rewards)) if prompt_weights is None else prompt_weights
    attained = sum(c[x] * total[x].max() for x in range(len(c)))
    assert oracle.reward_bound == pytest.approx(attained, rel=1e-12)


def test_regularizer_bound_is_no_larger_than_each_of_its_three_reasons():
    task = make_task(n_prompts=5, n_responses=30)
    reached = {}
    for beta in (1e-3, 0.05, 10.0):
        oracle = TabularOracle(task.rewards, task.reference, beta)
        rarest = beta * np.log(1 / task.reference.min(axis=1)).mean()
        at_reference = np.einsum("xy,xyd->xd", task.reference, task.rewards)
        climb = (task.rewards.max(axis=1) - at_reference).mean(axis=0).max()
        spread = np.ptp(task.rewards, axis=1)
        variance = (spread**2).mean(axis=0).max() / (8 * beta)
        assert oracle.regularizer_bound == pytest.approx(min(rarest, climb, variance))
        worst = max(p.regularizer for p in oracle.solve(sample_weights(50, 2)))
        reached[beta] = worst / oracle.regularizer_bound
    # close where β is small or large, within a factor of a few between
    assert reached[1e-3] > 0.4
    assert reached[0.05] > 0.2
    assert reached[10.0] > 0.15


@given(tables(), st.sampled_from([1e-4, 1e-8, 1e-300]))
def test_small_beta_is_the_best_response(table, beta):
    rewards, reference, prompt_weights, _ = table
    oracle = TabularOracle(rewards, reference, beta, prompt_weights=prompt_weights)
    w = np.full(rewards.shape[2], 1 / rewards.shape[2])
    score = np.where(reference > 0, rewards @ w, -np.inf)
    best = score.max(axis=1)
    c = np.full(len(best), 1 / len(best)) if prompt_weights is None else prompt_weights
    # opt lies between the best response and itself less β·log(1/π_ref) of it
    cost = beta * np.log(1 / reference[np.arange(len(best)), score.argmax(axis=1)])
    value = oracle.value(w)[0]
    assert c @ (best - cost) - 1e-12 <= value <= c @ best + 1e-12
    policy = next(oracle.solve(w))
    assert policy.rewards @ w >= c @ (best - cost) - 1e-12


def test_ties_are_shared_as_the_reference_has_them_at_any_beta():
    rewards = [[[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]]
    for beta in (1.0, 1e-4, 1e-8, 1e-300, 5e-324):
        oracle = TabularOracle(rewards, [[0.1, 0.3, 0.6]], beta)
        p = oracle.probabilities([0.5, 0.5])
        assert p[0, 1] / p[0, 0] == pytest.approx(3.0)
        if beta < 1e-3:
            np.testing.assert_allclose(p, [[0.25, 0.75, 0.0]])
            kl = np.log(2.5)
            policy = next(oracle.solve([0.5, 0.5]))
            assert policy.regularizer == pytest.approx(beta * kl, abs=1e-16)


@given(tables(), st.sampled_from([1e6, 1e12]))
def test_large_beta_is_the_reference(table, beta):
    rewards, reference, _, rng = table
    oracle = TabularOracle(rewards, reference, beta)
    w = rng.dirichlet(np.ones(rewards.shape[2]))
    np.testing.assert_allclose(oracle.probabilities(w), reference, atol=1e-4)
    score = rewards @ w
    mean = (reference * score).sum(axis=1)
    assert oracle.value(w)[0] == pytest.approx(mean.mean(), abs=1e-4)
    # second order: f = Var/(2β), not the rounding of β times it
    variance = (reference * (score - mean[:, np.newaxis]) ** 2).sum(axis=1)
    f = next(oracle.solve(w)).regularizer
    assert f == pytest.approx(variance.mean() / (2 * beta), rel=1e-3, abs=1e-14)


@given(tables(), st.sampled_from([1e-3, 0.05, 1.0]))
def test_opt_is_convex_and_above_every_policy(table, beta):
    rewards, reference, prompt_weights, rng = table
    oracle = TabularOracle(rewards, reference, beta, prompt_weights=prompt_weights)
    u, v = rng.dirichlet(np.ones(rewards.shape[2]), 2)
    s = rng.random()
    a, b, between = oracle.value([u, v, s * u + (1 - s) * v])
    slack = 1e-12 * (1 + np.abs(rewards).max())
    assert between <= s * a + (1 - s) * b + slack
    for policy in oracle.solve([u, v]):
        assert (policy.rewards @ v - policy.regularizer) <= b + slack


@given(tables(), st.sampled_from([1e-3, 1.0]))
def test_responses_outside_the_reference_do_not_exist(table, beta):
    rewards, reference, prompt_weights, rng = table
    w = rng.dirichlet(np.ones(rewards.shape[2]))
    tempting = np.where(reference[..., np.newaxis] > 0, rewards, 1e6)
    one, two = (
        TabularOracle(r, reference, beta, prompt_weights=prompt_weights)
        for r in (rewards, tempting)
    )
    p = two.probabilities(w)
    assert (p[reference == 0] == 0).all()
    np.testing.assert_array_equal(p, one.probabilities(w))
    np.testing.assert_array_equal(one.value(w), two.value(w))
    assert one.reward_bound == two.reward_bound
    assert one.regularizer_bound == two.regularizer_bound


def test_a_weighted_prompt_is_a_repeated_prompt():
    task = make_task(n_prompts=2, n_responses=40)
    weighted = TabularOracle(task.rewards, task.reference, 0.1, prompt_weights=[0.75, 0.25])
    rows = [0, 0, 0, 1]
    repeated = TabularOracle(task.rewards[rows], task.reference[rows], 0.1)
    weights = sample_weights(5, 2)
    np.testing.assert_allclose(weighted.value(weights), repeated.value(weights), rtol=1e-14)
    for a, b in zip(weighted.solve(weights), repeated.solve(weights), strict=True):
        np.testing.assert_allclose(a.rewards, b.rewards, rtol=1e-14)
        assert a.regularizer == pytest.approx(b.regularizer, rel=1e-14)
    assert weighted.reward_bound == pytest.approx(repeated.reward_bound)
    assert weighted.regularizer_bound == pytest.approx(repeated.regularizer_bound)


def test_answers_come_one_by_one_and_depend_on_their_own_weight_alone():
    task = make_task(("a", "b", "c"), n_prompts=7, n_responses=33)
    weights = sample_weights(64, 3)
    asked = []

    class Watched(TabularOracle):
        def _tilt(self, weights):
            asked.append(weights)
            return super()._tilt(weights)

    oracle = Watched(task.rewards, task.reference)
    answers = oracle.solve(weights)
    assert asked == []
    straight = list(islice(answers, 3))
    assert len(asked) == 3
    straight += answers
    for i in (63, 5, 17):
        alone = next(TabularOracle(task.rewards, task.reference).solve(weights[i]))
        assert alone.id == straight[i].id
        np.testing.assert_array_equal(alone.weights, weights[i])
        np.testing.assert_array_equal(alone.rewards, straight[i].rewards)
        assert alone.regularizer == straight[i].regularizer
        np.testing.assert_array_equal(alone.prompt_rewards, straight[i].prompt_rewards)


def test_uniform_is_the_default_reference():
    rewards = make_task(n_prompts=3, n_responses=8).rewards
    one, two = TabularOracle(rewards), TabularOracle(rewards, np.full((3, 8), 1 / 8))
    assert one.fingerprint == two.fingerprint
    assert one.objectives == ("objective 1", "objective 2")


def test_fingerprint_changes_with_everything_and_only_then():
    rewards, reference = np.random.default_rng(0).random((2, 3, 2)), np.full((2, 3), 1 / 3)
    base = {"rewards": rewards, "reference": reference, "beta": 0.1, "objectives": ("a", "b")}
    skewed, nudged = reference.copy(), rewards.copy()
    skewed[0] = [0.3, 0.3, 0.4]
    nudged[1, 2, 1] = np.nextafter(nudged[1, 2, 1], 2)
    variants = [
        base,
        base | {"rewards": nudged},
        base | {"reference": skewed},
        base | {"beta": 0.2},
        base | {"objectives": ("a", "c")},
        base | {"prompt_weights": [0.4, 0.6]},
    ]
    prints = [TabularOracle(**variant).fingerprint for variant in variants]
    assert len(set(prints)) == len(prints)
    assert TabularOracle(**base).fingerprint == prints[0]


GOOD = np.ones((2, 3, 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rewards": np.ones((2, 3))}, r"rewards: must have shape \(n_prompts, n_responses, d\)"),
        ({"rewards": np.ones((2, 3, 1))}, "at least 2 objectives are needed, got 1"),
        ({"rewards": np.ones((0, 3, 2))}, "has \\(0, 3, 2\\)"),
        (
            {"rewards": np.where(GOOD == 1, np.nan, 0)},
            r"rewards\[0, 0, 0\] = nan: must be a finite",
        ),
        ({"rewards": [[["a", "b"]]]}, "rewards: must be numbers"),
        ({"reference": np.ones((2, 2)) / 2}, r"reference: must have shape \(2, 3\), has \(2, 2\)"),
        ({"reference": [[0.5, 0.5, 0], [0.5, 0.4, 0]]}, "prompt '1': reference adds to 0.9"),
        ({"reference": [[1.5, -0.5, 0], [1, 0, 0]]}, "prompt '0': has a negative reference"),
        ({"beta": 0.0}, "beta = 0.0: must be a finite number above 0"),
        ({"beta": float("nan")}, "beta = nan"),
        ({"objectives": ("a",)}, "objectives: has 1 names, must have 2"),
        ({"objectives": ("a", "a")}, "duplicate name 'a'"),
        ({"objectives": ("a", "")}, "must be names"),
        ({"prompt_weights": [1.0]}, r"prompt_weights: must have shape \(2,\)"),
        ({"prompt_weights": [0.5, 0.6]}, "prompt_weights: must not be negative and must add to 1"),
        ({"prompt_weights": [1.5, -0.5]}, "prompt_weights: must not be negative"),
        ({"prompt_weights": [np.nan, 1.0]}, "prompt_weights: must not be negative"),
        ({"prompt_weights": ["a", "b"]}, "prompt_weights: must be 2 numbers"),
    ],
)
def test_unusable_tables_are_refused(arguments, message):
    with pytest.raises(InputError, match=message) as error:
        TabularOracle(**({"rewards": GOOD} | arguments))
    assert "\n" not in str(error.value)


def test_probabilities_take_one_weight_vector():
    with pytest.raises(InputError, match="weights: has 2 rows, must be one"):
        TabularOracle(GOOD).probabilities(np.eye(2))


# --- theory.md, section 4: 9 calls certify 1 %, the theorem's grid needs thousands


def test_the_facts_of_the_theory_notes():
    oracle = load()
    assert oracle.beta == 0.05
    asked: dict[float, np.ndarray] = {}

    def ask(t):
        policy = next(oracle.solve([1 - t, t]))
        asked[t] = policy.rewards - policy.regularizer

    def corners():
        """(relative gap, gap, t) of chord minus envelope, where two policies meet."""
        ts, us = sorted(asked), np.array([asked[t] for t in sorted(asked)])
        chord = [max(us @ [1 - t, t]) for t in ts]
        for a in range(len(us) - 1):
            at_zero, slope = us[a, 0] - us[a + 1, 0], (us[a] - us[a + 1]) @ [1, -1]
            t = at_zero / slope
            low, high = max(us @ [1 - t, t]), np.interp(t, ts, chord)
            yield (high - low) / high, high - low, t

    ask(0.0)
    ask(1.0)
    while (worst := max(corners()))[0] > 0.01:
        ask(worst[2])
    delta = max(gap for _, gap, _ in corners())
    assert len(asked) == 9
    assert 0.004 < delta < 0.008
    # the certificate is true
    ts = np.linspace(0, 1, 101)
    weights = np.column_stack([1 - ts, ts])
    best = (weights @ np.array(list(asked.values())).T).max(axis=1)
    assert (oracle.value(weights) - best <= delta + 1e-12).all()
    # Theorem 3.4 promises as much only for a grid of thousands
    sizes = []
    for mu in np.linspace(1e-4, 0.01 / 4, 50):
        x = 0.0068 / 2 - mu * oracle.regularizer_bound
        if x > 0:
            alpha = x / (2 * oracle.reward_bound)
            guarantee = theorem_bounds(2, mu, alpha, oracle.reward_bound, oracle.regularizer_bound)
            assert guarantee.epsilon <= 0.01 + 1e-12
            assert guarantee.delta <= 0.0068 + 1e-12
            sizes.append(guarantee.size)
    assert 5000 < min(sizes) < 7000


# --- made tasks


@pytest.mark.parametrize("d", [2, 3, 4, 5, 6])
def test_made_tasks_have_trade_offs(d):
    for names in (
        ("helpful", "brief", "safe", "humour", "polite", "formal")[:d],
        tuple("uvwxyz"[:d]),
    ):
        task = make_task(names, n_prompts=10, n_responses=100, seed=3)
        assert task.rewards.shape == (10, 100, d)
        assert task.objectives == names
        assert 0 <= task.rewards.min() <= task.rewards.max() <= 1
        np.testing.assert_allclose(task.reference.sum(axis=1), 1.0, atol=1e-12)
        assert (task.reference.max(axis=1) > 2 / 100).all()  # not uniform
        oracle = TabularOracle(task.rewards, task.reference, 0.05)
        vertex = list(oracle.solve(np.eye(d)))
        own = np.array([p.rewards - p.regularizer for p in vertex])
        # whoever is best at one objective loses much at another
        assert ((own.diagonal() - own) > 0.15).any(axis=1).all()
        # and the middle is worth a policy of its own
        middle = np.full(d, 1 / d)
        assert oracle.value(middle)[0] > (own @ middle).max() + 0.01


def test_made_tasks_are_set_by_their_seed():
    one, two, three = make_task(seed=1), make_task(seed=1), make_task(seed=2)
    np.testing.assert_array_equal(one.rewards, two.rewards)
    np.testing.assert_array_equal(one.reference, two.reference)
    assert (one.rewards != three.rewards).any()
    assert (one.reference != three.reference).any()
    # order and company of the names do not change what they mean
    turned = make_task(("brief", "safety", "helpful"), seed=1)
    np.testing.assert_array_equal(turned.rewards[..., [2, 0]], one.rewards)
    both = make_task(("safe", "harmless"), seed=1).rewards
    assert (both[..., 0] != both[..., 1]).all()


def test_brief_falls_with_what_helps():
    task = make_task(n_prompts=20, n_responses=500)
    correct = task.rewards[..., 1] > 0
    r = np.corrcoef(task.rewards[correct].T)[0, 1]
    assert r < -0.3


def test_objectives_of_no_known_kind_oppose_one_another():
    for d in (2, 3, 6):
        rewards = make_task(tuple("uvwxyz"[:d])).rewards
        r = np.corrcoef(rewards.reshape(-1, d).T)
        assert (r[~np.eye(d, dtype=bool)] < -0.5 / (d - 1)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objectives": ("helpful",)}, "objectives: at least 2 are needed, got 1"),
        ({"objectives": "helpful"}, "objectives = 'helpful': must be a list of names"),
        ({"objectives": ("a", "a")}, "duplicate name 'a'"),
        ({"objectives": (1, 2)}, "must be names"),
        ({"n_prompts": 0}, "n_prompts = 0: must be at least 1"),
        ({"n_responses": 1}, "n_responses = 1: must be at least 2"),
        ({"n_responses": 10**12}, "must be at most"),
        ({"seed": -1}, "seed = -1: must be at least 0"),
        ({"seed": 0.5}, "seed = 0.5: must be a whole number"),
    ],
)
def test_impossible_tasks_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        make_task(**options)


# --- the factory and its files


def test_load_makes_the_default_task():
    assert load().fingerprint == load(prompts=20, responses=200, seed=0, beta=0.05).fingerprint
    assert load().objectives == ("helpful", "brief")
    small = load(objectives=["x", "y", "z"], prompts=2, responses=5, seed=4, beta=1)
    assert small.objectives == ("x", "y", "z")
    assert next(small.solve(np.eye(3))).prompt_rewards.shape == (2, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 0}, "beta = 0: must be a finite number above 0"),
        ({"beta": "small"}, "beta = 'small'"),
        ({"prompts": 2.5}, "prompts = 2.5: must be a whole number"),
        ({"objectives": "helpful"}, "must be a list of names"),
        ({"objectives": [1, 2]}, "must be a list of names"),
        ({"table": "t.csv", "prompts": 3}, "table and prompts exclude each other"),
        ({"table": "t.csv", "responses": 3}, "table and responses exclude each other"),
        ({"table": "t.csv", "seed": 0}, "table and seed exclude each other"),
        ({"table": 7}, "table = 7: must be the path of a file"),
        ({"table": "no/such.csv"}, "no/such.csv: no such file"),
        ({"table": "no/such.npz"}, "no/such.npz: no such file"),
        ({"table": "tests"}, "tests: is a folder, must be a file"),
        ({"table": "no/such.xlsx"}, "must be a table file ending in"),
    ],
)
def test_wrong_options_are_refused(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tests").mkdir()
    with pytest.raises(InputError, match=message) as error:
        load(**options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("ending", [".npz", ".csv"])
def test_a_saved_task_is_the_same_task(tmp_path, ending):
    task = make_task(("helpful", "brief", "safe"), n_prompts=4, n_responses=9)
    path = tmp_path / f"task{ending}"
    save_task(path, task)
    made = TabularOracle(task.rewards, task.reference, 0.1, task.objectives)
    assert load(table=path, beta=0.1).fingerprint == made.fingerprint
    chosen = load(table=str(path), beta=0.1, objectives=["safe", "helpful"])
    expected = TabularOracle(task.rewards[..., [2, 0]], task.reference, 0.1, ("safe", "helpful"))
    assert chosen.fingerprint == expected.fingerprint
    with pytest.raises(InputError, match=r"(objective|column) 'witty'"):
        load(table=path, objectives=["safe", "witty"])
    with pytest.raises(InputError, match=r"task\.txt: must end in \.npz or \.csv"):
        save_task(tmp_path / "task.txt", task)


CSV = """\
prompt,response,reference,helpful,brief
p1,short,0.25,0.2,0.9
p2,only,1,0.5,0.5
p1,long,0.75,0.8,0.1
"""


def test_prompts_of_a_csv_may_have_different_numbers_of_responses(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(CSV)
    task = read_task(path)
    assert task.objectives == ("helpful", "brief")
    np.testing.assert_array_equal(task.reference, [[0.25, 0.75], [1.0, 0.0]])
    np.testing.assert_array_equal(task.rewards[0], [[0.2, 0.9], [0.8, 0.1]])
    np.testing.assert_array_equal(task.rewards[1, 0], [0.5, 0.5])
    # what prompt p2 lacks is not an answer
    assert load(table=path, beta=1e-3).probabilities([1, 0])[1, 1] == 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",reference", "", "line 2 has 5 cells, must have 4"),
        ("reference", "p_ref", "no column 'reference'"),
        ("prompt,", "question,", "no column 'prompt'"),
        ("0.8", "nan", "column 'helpful', line 4: 'nan' is not finite"),
        ("0.8", "", "column 'helpful', line 4: an empty cell is not a number"),
        ("0.8", "good", "column 'helpful', line 4: 'good' is not a number"),
        ("0.75", "0.70", "prompt 'p1': reference adds to 0.95, must add to 1"),
        ("0.25", "-0.25", "prompt 'p1': has a negative reference probability"),
        ("long", "short", "prompt 'p1': duplicate response 'short'"),
        ("p1,long,0.75,0.8,0.1\n", "", "prompt 'p1': reference adds to 0.25"),
        ("brief", "helpful", "duplicate column 'helpful'"),
        (CSV, "", "the file is empty"),
        (CSV, CSV.splitlines()[0] + "\n", "has no responses"),
        (CSV, "prompt,response,reference,helpful\np,r,1,0.5\n", "at least 2 objectives .* got 1"),
    ],
)
def test_broken_csv_is_refused_in_one_line(tmp_path, old, new, message):
    path = tmp_path / "t.csv"
    text = CSV.replace(old, new)
    assert text != CSV
    path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        load(table=path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def npz(path, **arrays):
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"rewards": GOOD}, "no array 'reference'; its arrays: 'rewards'"),
        ({"rewards": GOOD, "reference": np.ones((2, 3))}, "prompt '0': reference adds to 3"),
        ({"rewards": GOOD, "reference": np.ones(2)}, "reference: must have shape"),
        ({"rewards": GOOD * np.inf, "reference": np.ones((2, 3)) / 3}, "= inf: must be a finite"),
        ({"rewards": GOOD + 1j, "reference": np.ones((2, 3)) / 3}, "must be numbers"),
        (
            {"rewards": GOOD, "reference": np.ones((2, 3)) / 3, "objectives": np.array(["a"])},
            "objectives: has 1 names, must have 2",
        ),
        (
            {"rewards": np.array([{}], dtype=object), "reference": np.ones((2, 3))},
            "is not a NumPy file of numbers: Object arrays are refused",
        ),
    ],
)
def test_broken_npz_is_refused_in_one_line(tmp_path, arrays, message):
    with pytest.raises(InputError, match=message) as error:
        load(table=npz(tmp_path / "t.npz", **arrays))
    assert "\n" not in str(error.value)


def test_an_npz_that_would_unpack_to_more_than_fits_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("palm_core.oracles.task_table.LARGEST_TABLE", 10)
    path = npz(tmp_path / "t.npz", rewards=GOOD, reference=np.ones((2, 3)) / 3)
    with pytest.raises(InputError, match="must hold at most 10 rewards"):
        load(table=path)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    task = make_task(n_prompts=2, n_responses=3)
    for ending in (".npz", ".csv"):
        save_task(folder / f"task{ending}", task)
    return folder


@settings(max_examples=150)
@given(data=st.data(), ending=st.sampled_from([".npz", ".csv"]))
def test_a_damaged_file_is_a_task_or_an_input_error(saved, data, ending):
    content = bytearray((saved / f"task{ending}").read_bytes())
    cut = data.draw(st.integers(0, len(content)))
    damaged = content[:cut] if data.draw(st.booleans()) else content
    for _ in range(data.draw(st.integers(0, 3))):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = saved / f"damaged{ending}"
    path.write_bytes(damaged)
    with suppress(InputError):  # and no other error
        assert isinstance(read_task(path), TaskTable)


def test_a_cut_file_is_refused(saved):
    for ending, keep in ((".npz", 0.3), (".npz", 0.99), (".csv", 0.5)):
        content = (saved / f"task{ending}").read_bytes()
        path = saved / f"cut{ending}"
        path.write_bytes(content[: int(keep * len(content))])
        with pytest.raises(InputError):
            read_task(path)
