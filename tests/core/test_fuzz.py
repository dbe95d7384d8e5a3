"""Damaged and invented files through the readers and the command line: one line each time.

Inputs that the coverage-guided fuzzing of benchmarks/fuzz.py has found are examples here.
"""

from __future__ import annotations

import contextlib
import io
import json
import tomllib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from palm_command import run

from palm_core import InputError, Portfolio
from palm_core.oracles.task_table import parse_npz, task_of_table
from palm_core.run.config import parse_task, read_toml
from palm_core.tables.read import parse_table
from palm_core.validation import is_plain

# No hang: what takes milliseconds may take seconds on a busy machine.
bounded = settings(
    max_examples=2 * settings().max_examples,
    deadline=timedelta(seconds=8),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
fewer = settings(bounded, max_examples=settings().max_examples)

TASK: dict[str, Any] = {
    "oracle": {"name": "tabular", "n_prompts": 2, "n_responses": 3, "beta": 0.1},
    "grid": {"mu": "8/30", "alpha": 0.2},
    "prune": {"mu": 0.05, "method": "exact", "solver": "cbc", "normalize": "minmax"},
    "run": {"seed": 3, "workers": 2, "executor": "local", "timeout": 5.0, "retries": 1},
}
ADAPTIVE = {**TASK, "adaptive": {"target_epsilon": 0.1, "max_calls": 3}}
ADAPTIVE = {name: table for name, table in ADAPTIVE.items() if name not in {"grid", "prune"}}
PORTFOLIO: dict[str, Any] = {
    "format": "palm-portfolio",
    "version": 1,
    "objectives": ["x", "y"],
    "normalization": {"method": "minmax", "lower": [0, -1.0], "upper": [1, 2.0], "over": "two"},
    "policies": [
        {
            "id": name,
            "weights": rewards,
            "rewards": rewards,
            "regularizer": 0.25,
            "reward_errors": [0.1, 0.1],
            "artifact": f"artifacts/{name}",
            "info": {"steps": 3},
        }
        for name, rewards in (("a", [1.0, 0.0]), ("b", [0.25, 0.75]))
    ],
    "oracle_calls": 2,
    "candidates": 2,
    "slack": {"claimed_epsilon": 0.0, "claimed_delta": 0.0, "measured": 0.0, "measured_at": None},
    "gaps": {"epsilon": 0.0, "delta": 0, "epsilon_weights": [1, 0], "delta_weights": [0, 1]},
    "task": {"oracle": {"name": "tabular"}},
    "made_with": {"palm-core": "0"},
}
ROWS = [
    {"model": name, "x": x, "y": y} for name, x, y in (("a", 1, 0.1), ("b", 0.5, 0.5), ("c", 0, 1))
]
CSV = b"model,x,y\na,1.0,.1\nb,0.5,5e-1\n'c d',0,1\n"
LONG = b"prompt,response,reference,x,y\n0,0,0.5,1,0\n0,1,0.5,0,1\n1,0,1,.5,.5\n"

ODD: list[Any] = [None, True, 0, -1, 1, 2, 10**19, -(10**30), 1e308, -1e308, 5e-324, 0.5, 1e-9]
ODD += [float("inf"), float("nan"), "", "a", "none", "1/3", "1e999999999", "\x1b[2J", "a\nb", "\0"]
ODD += ["\u202e", "é", "x" * 2000, "../x", [], {}, [[]], [0.5, 0.5], {"": {"": []}}]


@st.composite
def mutated(draw: st.DrawFn, document: Any) -> Any:
    """A document with one to three of its nodes removed, doubled, swapped or replaced."""

    def change(node: Any) -> Any:
        if not isinstance(node, (list, dict)) or not node or draw(st.integers(0, 7)) == 0:
            return draw(st.sampled_from(ODD))
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key, copy = draw(st.sampled_from(keys)), node.copy()
        what = draw(st.integers(0, 9))
        if what == 0:
            del copy[key]
        elif what == 1 and isinstance(copy, list):
            copy.insert(key, copy[key])
        elif what == 2:
            copy[key] = copy[draw(st.sampled_from(keys))]
        elif what == 3 and isinstance(copy, dict):
            copy[draw(st.sampled_from(["", "x", key + "x", "\x1b]", "a\nb"]))] = copy.pop(key)
        else:
            copy[key] = change(copy[key])
        return copy

    for _ in range(draw(st.integers(1, 3))):
        document = change(document)
    return document


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Bytes with some flipped, cut out, put in or cut off."""
    found = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(found) - 1, 0)))
        what = draw(st.integers(0, 3))
        if what == 0:
            found[place : place + 1] = bytes([draw(st.integers(0, 255))])
        elif what == 1:
            del found[place : place + draw(st.integers(1, 30))]
        elif what == 2:
            found[place:place] = draw(st.binary(max_size=12))
        else:
            del found[place:]
    return bytes(found)


def toml(document: Any) -> bytes:
    """TOML of what JSON can say; what TOML cannot is written as TOML would not take it."""

    def value(node: Any) -> str:
        if isinstance(node, dict):
            return "{" + ", ".join(f"{json.dumps(k)} = {value(v)}" for k, v in node.items()) + "}"
        if isinstance(node, list):
            return "[" + ", ".join(map(value, node)) + "]"
        text = json.dumps(node)
        return {"NaN": "nan", "Infinity": "inf"}.get(text, text).replace("\x7f", "\\u007f")

    if not isinstance(document, dict):
        return value(document).encode()
    lines = [f"{json.dumps(key)} = {value(node)}" for key, node in document.items()]
    return "\n".join(lines).encode()


def numpy_bytes() -> dict[str, bytes]:
    matrix, columns, task = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(matrix, np.array([[1.0, 0.1], [0.5, 0.5], [0.0, 1.0]]))
    np.savez(columns, model=np.array(["a", "b"]), x=np.array([1.0, 0.0]), y=np.array([0, 1]))
    np.savez_compressed(
        task,
        rewards=np.ones((1, 2, 2)),
        reference=np.full((1, 2), 0.5),
        objectives=np.array(["x", "y"]),
    )
    return {".npy": matrix.getvalue(), ".npz": columns.getvalue(), "task": task.getvalue()}


NUMPY = numpy_bytes()


def works_or_is_refused(read: Callable[[], Any]) -> Any:
    """What was read, or ``None`` where it was refused in one line that can be printed."""
    try:
        return read()
    except InputError as error:
        text = str(error)
        assert text
        assert len(text) < 2000
        assert is_plain(text)
        return None


def palm(*arguments: str, codes: tuple[int, ...] = (0, 2)) -> str:
    """One command line in this process: it works, or says in one line why not."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(arguments)
    said = err.getvalue()
    assert code in codes, said
    if code:
        assert said.startswith("palm: "), said
        assert said.count("\n") == 1, said
        assert out.getvalue() == ""
    for text in (said, out.getvalue()):
        assert is_plain(text.replace("\n", "")), text
    return out.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


# Tasks.

tasks = st.one_of(
    mutated(TASK).map(toml),
    mutated(ADAPTIVE).map(toml),
    damaged(toml(TASK)),
    st.binary(max_size=60),
    st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")),
)


def test_the_tasks_changed_here_are_sound() -> None:
    for document in (TASK, ADAPTIVE):
        assert tomllib.loads(toml(document).decode()) == document
        assert parse_task(read_toml(toml(document), "t.toml")).oracle == "tabular"


@bounded
@example(toml({**TASK, "grid": {"mu": "1e999999999", "alpha": 0.2}}))
@example(b"a = 0x" + b"f" * 5000)
@example(b"[grid]\nmu = 0x" + b"f" * 5000)
@example(b"a." * 2000 + b"a = 1")
@given(data=tasks)
def test_a_task_is_read_or_refused(data: bytes) -> None:
    def read() -> None:
        content = read_toml(data, "t.toml")
        with contextlib.suppress(InputError):  # its message is made one line by load_task
            json.dumps(parse_task(content).resolved(), allow_nan=False)

    works_or_is_refused(read)


@fewer
@given(data=st.one_of(mutated(TASK).map(toml), mutated(ADAPTIVE).map(toml), damaged(toml(TASK))))
def test_palm_plan_of_any_task(folder: Path, data: bytes) -> None:
    place = folder / "t.toml"
    place.write_bytes(data)
    palm("plan", str(place))


# Portfolios.

portfolios = st.one_of(
    mutated(PORTFOLIO).map(lambda node: json.dumps(node).encode()),
    mutated(PORTFOLIO).map(lambda node: json.dumps(node, ensure_ascii=False).encode()),
    damaged(json.dumps(PORTFOLIO).encode()),
    st.binary(max_size=60),
)


def with_policy(**changes: Any) -> bytes:
    first, *rest = PORTFOLIO["policies"]
    return json.dumps({**PORTFOLIO, "policies": [{**first, **changes}, *rest]}).encode()


@bounded
@example(data=with_policy(id="\x1b]0;x\x07"))
@example(data=with_policy(id="b"))
@example(data=with_policy(info={"a": json.loads("[" * 400 + "]" * 400)}))
@example(data=json.dumps(PORTFOLIO).encode().replace(b'"two"', b'"\xff"'))
@example(data=json.dumps(PORTFOLIO).encode().replace(b"-1.0", b"-1e308").replace(b"2.0", b"1e308"))
@given(data=portfolios)
def test_a_portfolio_is_read_and_routes_or_is_refused(data: bytes, folder: Path) -> None:
    found = works_or_is_refused(lambda: Portfolio.parse(data, "p.json"))
    if found is not None:
        d = len(found.objectives)
        assert found.route([1.0] + [0.0] * (d - 1)) in found.policies
        again = Portfolio.load(found.save(folder / "again.json"))
        assert [policy.id for policy in again.policies] == [policy.id for policy in found.policies]


@fewer
@given(data=portfolios, asked=st.sampled_from(["x=0.5,y=0.5", "x=1", "y=1"]), as_json=st.booleans())
def test_palm_route_of_any_portfolio(folder: Path, data: bytes, asked: str, as_json: bool) -> None:
    place = folder / "p.json"
    place.write_bytes(data)
    palm("route", str(place), "--weights", asked, *["--json"] * as_json)


weights = st.one_of(
    st.text(max_size=20),
    st.lists(
        st.tuples(
            st.sampled_from(["x", "y", " x", "", "X", "x=y", "\x1b", "\ud800"]),
            st.sampled_from(
                ["0.5", "1", "-1", "nan", "inf", "1e400", "", "0x1", "1_0", "1/2", "é"]
            ),
        ),
        max_size=4,
    ).map(lambda parts: ",".join(f"{name}={value}" for name, value in parts)),
)


@fewer
@given(asked=st.lists(weights, max_size=2))
def test_palm_route_for_any_weights(folder: Path, asked: list[str]) -> None:
    place = folder / "sound.json"
    place.write_text(json.dumps(PORTFOLIO))
    palm("route", str(place), "--weights", *asked)


# Tables.

tables = st.one_of(
    st.tuples(st.sampled_from([".csv", ".tsv"]), damaged(CSV)),
    st.tuples(st.just(".csv"), damaged(LONG)),
    st.tuples(st.just(".json"), mutated(ROWS).map(lambda node: json.dumps(node).encode())),
    st.tuples(
        st.just(".json"),
        mutated({"x": [1, 0.5, 0], "y": [0, 0.5, 1]}).map(lambda node: json.dumps(node).encode()),
    ),
    st.tuples(st.just(".npy"), damaged(NUMPY[".npy"])),
    st.tuples(st.just(".npz"), damaged(NUMPY[".npz"])),
    st.tuples(st.just(".npz"), damaged(NUMPY["task"])),
    st.tuples(st.sampled_from([".csv", ".json", ".npy", ".npz", ".parquet"]), st.binary()),
)


@bounded
@example((".json", b'[{"model":"\\ud800","x":1,"y":2},{"model":"b","x":2,"y":1}]'))
@example((".json", json.dumps([{"model": {}, "x": 1, "y": 2}, {"model": "b"}]).encode()))
@example((".csv", b"model,x,y\n\x1b[2J,1,2\nb,2,1"))
@given(given=tables)
def test_a_table_is_read_or_refused(given: tuple[str, bytes]) -> None:
    suffix, data = given
    if suffix == ".npz":
        works_or_is_refused(lambda: parse_npz(data, "t"))
    table = works_or_is_refused(lambda: parse_table(data, suffix, "t"))
    if table is not None:
        works_or_is_refused(lambda: task_of_table(table))
        works_or_is_refused(lambda: table.policies(maximize=["x"], minimize=["y"]))


@fewer
@given(
    given=tables,
    how=st.sampled_from([(), ("--normalize", "none"), ("--json",), ("--curve", "--most", "2")]),
)
def test_palm_select_of_any_table(
    folder: Path, given: tuple[str, bytes], how: tuple[str, ...]
) -> None:
    place = folder / f"t{given[0]}"
    place.write_bytes(given[1])
    palm("select", str(place), "--maximize", "x", "y", "--time-limit", "2", *how)


@pytest.mark.parametrize("name", ["\0", "\ud800", "x" * 5000, "\n", "a\0.csv", "x" * 5000 + ".csv"])
def test_places_that_cannot_be_are_refused_in_one_line(name: str) -> None:
    palm("plan", name, codes=(2,))
    palm("select", name, "--maximize", "x", "y", codes=(2,))
    palm("route", name, "--weights", "x=1", codes=(2,))
