"""A CBC that does not work: HiGHS takes its place, and the answer says which solver gave it."""

from __future__ import annotations

import gc
import tempfile

import pulp
import pytest
from hypothesis import given, settings
from test_setcover import as_bits, is_cover, lines, smallest, tables

from palm_core import PalmWarning, WorkError
from palm_core.cover import integer_program as _integer
from palm_core.cover.integer_program import integer_program
from palm_core.cover.set_cover import solve_set_cover

# PuLP does not close the file for the output of a program that does not start.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")


@pytest.fixture(autouse=True)
def collected():
    yield
    gc.collect()


def put(content: bytes, mode: int):
    """Something in the place of cbc."""

    def place(file):
        file.write_bytes(content)
        file.chmod(mode)

    return place


NO_CBC = {
    "missing": lambda file: None,
    "a folder": lambda file: file.mkdir(),
    "empty": put(b"", 0o755),
    "not executable": put(b"#!/bin/sh\n", 0o644),
    "of another processor": put(b"\x7fELF\x02\x01\x01" + bytes(57), 0o755),
    "of another libc": put(b"#!/lib/no-such-loader\n", 0o755),
    "crashing": put(b"#!/bin/sh\nkill -SEGV $$\n", 0o755),
    "doing nothing": put(b"#!/bin/sh\n", 0o755),
    "writing nonsense": put(
        b'#!/bin/sh\nfor file; do :; done; echo "%s" > "$file"\n' % b"Optimal - x\n a b", 0o755
    ),
}


@pytest.mark.parametrize("name", NO_CBC)
def test_highs_takes_the_place_of_a_cbc_that_does_not_work(monkeypatch, tmp_path, name):
    cbc = tmp_path / "cbc"
    NO_CBC[name](cbc)
    monkeypatch.setattr(pulp.PULP_CBC_CMD, "pulp_cbc_path", str(cbc))
    with pytest.warns(PalmWarning, match=str(cbc)):
        solver, proven, rows = integer_program(lines(2), solver=None, seconds=60)
    assert (solver, proven, len(rows)) == ("highs", True, 5)
    # said once
    assert solve_set_cover(as_bits(lines(2)), 12).solver == "highs"
    # who asks for cbc by name gets it, or hears where it should be
    with pytest.raises(WorkError, match=str(cbc)) as error:
        integer_program(lines(2), solver="cbc", seconds=60)
    assert "\n" not in str(error.value)


def test_the_substitute_needs_no_temporary_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    monkeypatch.setattr(_integer, "_failed", set())
    with pytest.warns(PalmWarning, match="nowhere"):
        assert integer_program(lines(2), solver=None, seconds=60)[0] == "highs"


@given(tables(rows=(2, 10), columns=(2, 30)))
@settings(max_examples=25)
def test_the_substitute_agrees_with_brute_force(table):
    best = smallest(table)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_integer, "_cbc_path", lambda: "nowhere")
        patch.setattr(_integer, "_failed", {"nowhere"})
        name, proven, rows = integer_program(table, solver=None, seconds=60)
        assert (name, proven, len(rows)) == ("highs", True, best)
        assert is_cover(table, rows)
        _, proven, rows = integer_program(table, solver=None, seconds=60, most=best)
        assert (proven, len(rows)) == (True, best)
        assert integer_program(table, solver=None, seconds=60, most=best - 1)[1:] == (True, None)


def test_the_substitute_out_of_time_proves_nothing(monkeypatch):
    monkeypatch.setattr(_integer, "_cbc_path", lambda: "nowhere")
    monkeypatch.setattr(_integer, "_failed", {"nowhere"})
    table = lines(4)
    name, proven, rows = integer_program(table, solver=None, seconds=1.0)
    assert (name, proven) == ("highs", False)
    assert is_cover(table, rows)  # a cover that it found on the way
    assert integer_program(table, solver=None, seconds=0.1, most=50)[1] is False
