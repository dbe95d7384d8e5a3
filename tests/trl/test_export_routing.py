"""The router that is exported agrees with the portfolio, at every weight."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from palm_core import Normalization, Policy, Portfolio
from palm_core.plugin import Artifact
from palm_trl.export import router
from palm_trl.export.models import Gathered, Model, ModelFiles, model_names
from palm_trl.export.routing import RoutingDocument, routing_of, routing_schema
from palm_trl.export.serving import max_lora_rank

NAMES = ("brevity", "helpfulness", "safety", "cost")
# few different values: ties are frequent
small = st.integers(-4, 4).map(float)
any_value = st.floats(-1e6, 1e6)


@st.composite
def portfolios(draw, most: int = 4) -> Portfolio:
    d, m = draw(st.integers(2, most)), draw(st.integers(1, 6))
    value = draw(st.sampled_from([small, any_value]))
    rows = [[draw(value) for _ in range(d)] for _ in range(m)]
    penalty = [draw(st.sampled_from([0.0, 0.5, 3.0])) for _ in range(m)]
    limits = Normalization.none(d)
    if draw(st.booleans()):
        low = [draw(st.sampled_from([-3.0, 0.1, 2.0])) for _ in range(d)]
        wide = [draw(st.sampled_from([0.5, 3.0, 1000.0])) for _ in range(d)]
        high = tuple(a + b for a, b in zip(low, wide, strict=True))
        limits = Normalization(method="minmax", lower=tuple(low), upper=high, over="some")
    return Portfolio(
        policies=tuple(
            Policy(
                id=f"policy {i}", weights=np.full(d, 1 / d), rewards=np.array(row), regularizer=f
            )
            for i, (row, f) in enumerate(zip(rows, penalty, strict=True))
        ),
        objectives=NAMES[:d],
        normalization=limits,
    )


def gathered(portfolio: Portfolio) -> Gathered:
    files = ModelFiles(kind="full", config={}, weights=(), tokenizer=())
    names = model_names([policy.id for policy in portfolio.policies])
    return Gathered(
        run="run",
        portfolio=portfolio,
        models=tuple(
            Model(name=name, policy=policy, artifact=Artifact(name, "", 0), files=files)
            for name, policy in zip(names, portfolio.policies, strict=True)
        ),
        base=None,
        versions={},
    )


def exported(portfolio: Portfolio) -> dict:
    """routing.json, written and read again."""
    models = gathered(portfolio)
    document = routing_of(models, [one.name for one in models.models], None)
    return json.loads(msgspec.json.encode(document))


@st.composite
def weights(draw, d: int) -> list[float]:
    """Corners, quarters (exact ties), and any others."""
    parts = draw(st.lists(st.integers(0, 4), min_size=d, max_size=d))
    if draw(st.booleans()):
        parts = draw(st.lists(st.floats(0, 1), min_size=d, max_size=d))
    assume(sum(parts) > 1e-3)
    return [part / sum(parts) for part in parts]


@given(portfolios(), st.data())
def test_it_agrees_with_the_portfolio(portfolio: Portfolio, data) -> None:
    table = exported(portfolio)
    asked = data.draw(weights(len(portfolio.objectives)))
    names = [model["name"] for model in table["models"]]
    index = names.index(router.model_for(asked, table))
    mine = int(portfolio.route_indices(asked)[0])
    if index != mine:
        # float64 adds up in another order: only where both are the best up to that
        values = portfolio.policy_set.vertex_values
        worth = values @ np.asarray(asked)
        size = np.abs(values[[index, mine]]) @ np.asarray(asked)
        assert abs(worth[index] - worth[mine]) <= 8 * np.finfo(float).eps * size.max()
    by_name = dict(zip(portfolio.objectives, asked, strict=True))
    assert router.entry_for(by_name, table) == table["models"][index]


@given(st.data())
def test_of_equals_the_first(data) -> None:
    """Values and weights of few binary digits: every J_w is exact, whoever adds it up."""
    d = data.draw(st.integers(2, 4))
    rows = data.draw(
        st.lists(st.lists(small, min_size=d, max_size=d), min_size=2, max_size=6).map(
            lambda rows: [*rows, *rows]
        )
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, 8), min_size=d - 1, max_size=d - 1)))
    asked = [(b - a) / 8 for a, b in zip([0, *cuts], [*cuts, 8], strict=True)]
    portfolio = Portfolio(
        policies=tuple(
            Policy(id=f"p{i}", weights=np.full(d, 1 / d), rewards=np.array(row))
            for i, row in enumerate(rows)
        ),
        objectives=NAMES[:d],
        normalization=Normalization.none(d),
    )
    assert router.model_for(asked, exported(portfolio)) == portfolio.route(asked).id


@given(portfolios(most=2), st.floats(0, 1))
def test_for_two_objectives_the_intervals_say_the_same(portfolio: Portfolio, first: float) -> None:
    table = exported(portfolio)
    ends = [end for m in table["models"] if m["serves"] for end in
            (m["serves"]["least"], m["serves"]["most"])]  # fmt: skip
    assume(all(abs(first - end) > 1e-9 for end in ends))
    inside = [
        model["name"]
        for model in table["models"]
        if model["serves"] and model["serves"]["least"] < first < model["serves"]["most"]
    ]
    values = portfolio.policy_set.vertex_values
    worth = values @ [first, 1 - first]
    best = [m["name"] for m, w in zip(table["models"], worth, strict=True)
            if worth.max() - w <= 1e-8 * max(1.0, np.abs(values).max())]  # fmt: skip
    assert len(inside) == 1
    assert inside[0] in best
    if len(best) == 1:
        assert inside == [router.model_for([first, 1 - first], table)]
    assert {m["serves"]["objective"] for m in table["models"] if m["serves"]} == {NAMES[0]}


PORTFOLIO = Portfolio(
    policies=tuple(
        Policy(id=name, weights=np.array([0.5, 0.5]), rewards=np.array(row), regularizer=f)
        for name, row, f in [("short", [1.0, 0.0], 0.0), ("long", [0.0, 1.2], 0.2)]
    ),
    objectives=NAMES[:2],
    normalization=Normalization.none(2),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    models = gathered(PORTFOLIO)
    document = routing_of(models, ["models/short", "models/long"], [8000, 8001])
    (tmp_path / "routing.json").write_bytes(msgspec.json.encode(document))
    shutil.copy(router.__file__, tmp_path / "route.py")
    return tmp_path


class TestStandingAlone:
    def run(self, folder: Path, *arguments: str):
        """Without site-packages: of the standard library only."""
        return subprocess.run(
            [sys.executable, "-I", "-S", str(folder / "route.py"), *arguments],
            capture_output=True,
            text=True,
        )

    @pytest.mark.parametrize(
        ("asked", "name"),
        [
            ("brevity=0.7,helpfulness=0.3", "short"),
            ("helpfulness=0.7, brevity=0.3", "long"),
            ("helpfulness=1", "long"),
            ("brevity=0.5,helpfulness=0.5", "short"),  # a tie
            ("brevity=0.5000004,helpfulness=0.5", "short"),
        ],
    )
    def test_the_name(self, folder, asked, name):
        done = self.run(folder, asked)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{name}\n", "")

    def test_the_port(self, folder):
        assert self.run(folder, "--port", "helpfulness=1").stdout == "8001\n"

    @pytest.mark.parametrize(
        ("asked", "said"),
        [
            (["brevity=0.7"], "add to 0.7, must add to 1"),
            (["brevity=0.7,help=0.3"], "no objective 'help', must be brevity, helpfulness"),
            (["brevity"], "'brevity' must be name=value"),
            (["brevity=0.5,brevity=0.5"], "without duplicates"),
            (["brevity=x,helpfulness=1"], "'x' must be a number"),
            (["brevity=2,helpfulness=-1"], "must be finite and not negative"),
            (["brevity=nan,helpfulness=1"], "must be finite and not negative"),
            ([], "must be one weight vector"),
        ],
    )
    def test_what_is_no_weight_vector(self, folder, asked, said):
        done = self.run(folder, *asked)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert said in done.stderr

    def test_imported(self, folder):
        code = (
            "from route import model_for, entry_for; "
            "print(model_for([0.1, 0.9]), entry_for({'brevity': 1})['path'])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True
        )
        assert done.stdout == "long models/short\n", done.stderr

    def test_as_many_weights_as_objectives(self, folder):
        table = router.load_routing(folder / "routing.json")
        with pytest.raises(ValueError, match="must be one for each of brevity, helpfulness"):
            router.model_for([1.0], table)


def test_the_document_and_its_schema():
    document = exported(PORTFOLIO)
    assert msgspec.convert(document, RoutingDocument).models[1].values == [-0.2, 1.0]
    assert document["models"][0] == {
        "name": "short",
        "policy": "short",
        "path": "short",
        "port": None,
        "values": [1.0, 0.0],
        "rewards": [1.0, 0.0],
        "regularizer": 0.0,
        "share": pytest.approx(1 - 1 / 2.2),
        "serves": {"objective": "brevity", "least": pytest.approx(1 / 2.2), "most": 1.0},
    }
    assert set(routing_schema()["$defs"]) >= {"RoutingDocument", "ModelRecord"}


def test_the_guide_shows_such_a_document():
    guide = Path(__file__).parents[2] / "docs" / "guides" / "serving.md"
    (shown,) = re.findall(r"^```json\n(.*?)^```", guide.read_text(), re.MULTILINE | re.DOTALL)
    document = msgspec.json.decode(shown, type=RoutingDocument)
    (model,) = document.models
    assert model.values == pytest.approx([r - model.regularizer for r in model.rewards], abs=1e-4)


class TestNames:
    @given(st.lists(st.text(max_size=200), unique=True, max_size=20))
    def test_they_are_plain_and_different(self, ids):
        names = model_names(ids)
        assert len({name.casefold() for name in names}) == len(ids)
        for name in names:
            assert name.replace("-", "").replace("_", "").replace(".", "").isalnum()
            assert name.isascii()
            assert name[0] not in ".-_"
            assert name != "base"

    def test_plain_ids_stay(self):
        assert model_names(["grpo-w0.25-0.75", "base", "Base"]) == [
            "grpo-w0.25-0.75",
            "base-2",
            "Base-3",
        ]


@given(st.lists(st.integers(1, 512), min_size=1, max_size=5))
def test_the_rank_is_one_of_vllms_and_enough(ranks):
    found = max_lora_rank(ranks)
    # vllm 0.31, vllm/config/lora.py: MaxLoRARanks
    accepted = (1, 8, 16, 32, 64, 128, 256, 320, 512)
    assert found in accepted
    assert found >= max(ranks)
    assert not [rank for rank in accepted if max(8, *ranks) <= rank < found]
