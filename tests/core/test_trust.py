"""Files from someone else are data: nothing in them runs, leads out, waits or fills the memory."""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from palm_core import InputError, OracleAnswerError, PalmError, Portfolio, read_table
from palm_core.oracles.task_table import read_task
from palm_core.plugin import (
    load_task,
    locate_artifact,
    one_line,
    read_bounded,
    verify_artifact,
    write_artifact,
)
from palm_core.run.artifacts import content_hash, seal
from palm_core.run.config import parse_task, read_toml
from palm_core.validation import LONGEST, is_plain

READERS: dict[str, Callable[[Path], object]] = {
    "t.toml": load_task,
    "t.json": Portfolio.load,
    "t.csv": read_table,
    "t.npz": read_task,
}
MEBI = 1 << 20


@contextmanager
def refused(message: str = "", *, seconds: float = 5.0, kind: type[PalmError] = InputError):
    """One line that says so, in bounded time."""
    begin = time.perf_counter()
    with pytest.raises(kind, match=message) as caught:
        yield
    assert time.perf_counter() - begin < seconds
    text = str(caught.value)
    assert is_plain(text)
    assert 0 < len(text) <= LONGEST + 200


@pytest.fixture(autouse=True)
def _no_hang():
    """A reader that waits for ever is interrupted, with a traceback to where it waits."""

    def stop(*_):
        raise AssertionError("still not done after 20 s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


# What is read.


@pytest.mark.parametrize("name", READERS)
def test_only_regular_files_are_read(name: str, tmp_path: Path) -> None:
    read, place = READERS[name], tmp_path / name
    os.mkfifo(place)
    with refused("is a pipe, a socket or a device"):
        read(place)
    place.unlink()
    place.symlink_to("/dev/zero")
    with refused("is a pipe, a socket or a device"):
        read(place)
    place.unlink()
    with socket.socket(socket.AF_UNIX) as listening:
        here = Path.cwd()
        os.chdir(tmp_path)  # the name of a socket is short
        listening.bind(name)
        os.chdir(here)
        with refused("is a pipe, a socket or a device"):
            read(place)
    place.unlink()
    place.symlink_to(place)
    with refused("cannot be read"):
        read(place)
    place.unlink()
    place.mkdir()
    with refused("is a folder"):
        read(place)
    with refused("cannot be read|no such"):
        read(tmp_path / ("x" * 5000 + name))
    with refused("cannot be read|no such"):
        read(tmp_path / f"a\0{name}")
    with refused("cannot be read|no such"):
        read(tmp_path / f"\x1b[2J\n\ud800{name}")


def test_a_pipe_that_takes_the_files_place_is_not_waited_for(tmp_path, monkeypatch) -> None:
    place = tmp_path / "t.toml"
    place.write_text("")
    regular = place.stat()
    place.unlink()
    os.mkfifo(place)
    monkeypatch.setattr(Path, "stat", lambda self, **_: regular)
    with refused("is a pipe"):
        read_bounded(place, 100)


@pytest.mark.parametrize(
    ("name", "most"), [("t.toml", 1 << 20), ("t.json", 1 << 25), ("t.csv", 1 << 26)]
)
def test_large_files_are_refused_by_their_size(name: str, most: int, tmp_path: Path) -> None:
    with (tmp_path / name).open("wb") as file:
        file.truncate(1 << 40)  # a terabyte of nothing takes no place
    with refused(f"must be at most {most}", seconds=1):
        READERS[name](tmp_path / name)


def test_a_file_larger_than_it_says_is_not_read_to_its_end(monkeypatch) -> None:
    asked = []

    class Stream(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            asked.append(size)
            return b"abc"

    def opened(descriptor: int, mode: str) -> Stream:
        os.close(descriptor)
        return Stream()

    # the kernel says 0 bytes of this one
    with refused("more than 2 bytes"):
        read_bounded(Path("/proc/self/status"), 2)
    monkeypatch.setattr(os, "fstat", lambda _: Path("/proc/self/status").stat())
    monkeypatch.setattr(os, "fdopen", opened)
    with refused("more than 2 bytes"):
        read_bounded(Path("/proc/self/status"), 2)
    assert asked == [3]


def test_a_size_that_fits_is_read_to_the_last_byte(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    assert read_bounded(tmp_path / "f", 3) == b"abc"
    with refused("3 bytes, must be at most 2"):
        read_bounded(tmp_path / "f", 2)


# Tasks.


@pytest.mark.parametrize(
    "text",
    [
        "a" + ".a" * 500_000 + " = 1",
        "[a" + ".a" * 500_000 + "]",
        '"a".' * 33 + "a = 1",
        "' ' .\t" * 33 + "a = 1",
        "a = {" + "a." * 400_000 + "a = 1}",
        "a = " + "[" * 100_000,
        "a = " + "{a = " * 5_000,
        "a = 1" + "0" * 100_000,
        "a = 0x" + "f" * 100_000,
        "a = " + "[" * 40 + "]" * 40,
        "a = [" + "{b = " * 20 + "[" * 20 + "]" * 20 + "}" * 20 + "]",
        '"\\"' * 250_000,
        "\ufeff\ufeffa = 1",
        "a\0 = 1",
        "\ud800",
    ],
    ids=lambda text: one_line(text, 24),
)
def test_task_files_made_to_hurt(text: str) -> None:
    with refused("^t.toml: "):
        read_toml(text.encode("utf-8", "surrogatepass"), "t.toml")


def test_long_names_within_texts_are_not_keys() -> None:
    text = 'a.b.c = "' + ", ".join(["0.5"] * 5000) + '"\nd = [' + "0.5, " * 5000 + "]"
    assert set(read_toml(b"\xef\xbb\xbf" + text.encode(), "t.toml")) == {"a", "d"}


@pytest.mark.parametrize(
    "number",
    ["1e999999999", "-1e-999999999/3", "1/1e999999999", "9" * 100_000, "nan", "inf/inf", "1//2"],
    ids=lambda text: text[:16],
)
def test_fractions_are_not_worked_out_to_the_last_digit(number: str) -> None:
    with refused(r"\[grid\] mu = "):
        parse_task({"oracle": {"name": "x"}, "grid": {"mu": number, "alpha": 0.1}})


def test_what_was_given_is_shown_but_not_all_of_it(tmp_path: Path) -> None:
    place = tmp_path / "t.toml"
    place.write_text(f'[oracle]\nname = "x"\n[grid]\nmu = "{"x" * 100_000}"\n')
    with refused("mu = 'xxxx.* … .*must be a number or a fraction$"):
        load_task(place)
    place.write_text('[grid]\n"mu\\u001b]0;x\\u0007\\n" = 1\n')
    with refused(r"\[grid\] mu\\x1b\]0;x\\x07\\n: unknown key"):
        load_task(place)


# Portfolios.


def portfolio(**changes: object) -> dict[str, object]:
    policies = [
        {"id": name, "weights": [0.5, 0.5], "rewards": rewards}
        for name, rewards in (("a", [1.0, 0.0]), ("b", [0.0, 1.0]))
    ]
    return {
        "format": "palm-portfolio",
        "version": 1,
        "objectives": ["x", "y"],
        "normalization": {"method": "minmax", "lower": [0, 0], "upper": [1, 1]},
        "policies": policies,
        "oracle_calls": 2,
        "candidates": 2,
        **changes,
    }


def policy(**changes: object) -> list[dict[str, object]]:
    return [{"id": "a", "weights": [0.5, 0.5], "rewards": [1.0, 0.0], **changes}]


def test_the_portfolio_that_is_changed_here_is_sound() -> None:
    assert Portfolio.parse(json.dumps(portfolio()).encode()).route([0.9, 0.1]).id == "a"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policies": policy(id="\x1b]0;owned\x07")}, r"policies: '\\x1b\]0;owned\\x07'"),
        ({"policies": policy(id="a\u202eb")}, "cannot be shown"),
        ({"policies": policy(id="a\nb")}, "cannot be shown"),
        ({"policies": policy(id="a" * 10_000)}, "is longer than 4096"),
        ({"policies": policy(artifact="a\x9b2J")}, "artifact: .*cannot be shown"),
        ({"objectives": ["x", "\x1b[2J"]}, "objectives: .*cannot be shown"),
        ({"objectives": ["x", "x"]}, "objectives: duplicate name 'x'"),
        ({"policies": [*policy(), *policy()]}, "duplicate name 'a'"),
        ({"policies": policy(reward_errors=[1.0])}, "reward_errors: must be 2"),
        ({"policies": policy(rewards=[1e301, 0])}, "below 1e300"),
        ({"format": "x" * 100_000}, "must be 'palm-portfolio'"),
        (
            {"normalization": {"method": "minmax", "lower": [-1e308, 0], "upper": [1e308, 1]}},
            "below 1e300",
        ),
        (
            {"normalization": {"method": "minmax", "lower": [0, 0], "upper": [5e-324, 1]}},
            "must be a finite number",
        ),
    ],
)
def test_portfolios_made_to_hurt(changes: dict[str, object], message: str) -> None:
    with refused(message):
        Portfolio.parse(json.dumps(portfolio(**changes)).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        json.dumps(portfolio()).encode()[:-1] + b',"info":' + b"[" * 100_000,
        json.dumps(portfolio()).encode()[:-1] + b',"task":{"a":' + b"[" * 900 + b"]" * 900 + b"}}",
        b"[" + b"{}," * 5_000_000 + b"1]",
        b'{"format":"palm-portfolio","version":' + b"9" * 5000 + b"}",
        json.dumps(portfolio()).encode().replace(b'"x"', b'"\\ud800"'),
        json.dumps(portfolio()).encode().replace(b'"x"', b'"\xed\xa0\x80"'),
        json.dumps(portfolio()).encode().replace(b'"a"', b'"\xff"'),
        json.dumps(portfolio()).encode().replace(b"1.0", b"1e400"),
        json.dumps(portfolio()).encode().replace(b"1.0", b"NaN"),
        b"\xef\xbb\xbf" + json.dumps(portfolio()).encode(),
        b"",
        b"\0",
    ],
    ids=range(14),
)
def test_bytes_that_are_no_portfolio(data: bytes) -> None:
    with refused("^p.json: "):
        Portfolio.parse(data, "p.json")


def test_containers_are_counted_before_they_are_made() -> None:
    many = json.dumps(portfolio()).encode()[:-1] + b',"task":{"a":[' + b"[]," * (1 << 20) + b"1]}}"
    with refused("must have fewer"):
        Portfolio.parse(many)


def test_many_policies_of_one_name_are_refused_at_once() -> None:
    many = [{**policy()[0], "id": str(i)} for i in range(60_000)]
    with refused("duplicate name '0'"):
        Portfolio.parse(json.dumps(portfolio(policies=[*many, many[0]])).encode())


def test_what_could_not_be_read_again_is_not_written(tmp_path, monkeypatch) -> None:
    made = Portfolio.parse(json.dumps(portfolio()).encode())
    monkeypatch.setattr("palm_core.model.portfolio.LARGEST_FILE", 100)
    with pytest.raises(PalmError, match="bytes, must be at most 100"):
        made.save(tmp_path / "p.json")
    assert not list(tmp_path.iterdir())


# Tables.


def npy(shape: str, descr: str = "'<f8'", data: bytes = b"") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


def archive(**arrays: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in arrays.items():
            packed.writestr(f"{name}.npy", data)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("t.csv", b"a,b\n" + b"," * (5 * MEBI), "at most 4194304 cells"),
        ("t.csv", b"a,b\n" + b"\n" * (5 * MEBI), "at most 4194304 cells"),
        ("t.csv", b"a,b\n1," + b"2" * (5 * MEBI), "field larger than field limit"),
        ("t.csv", b",".join(b"%d" % i for i in range(200_000)) + b",0\n1", "duplicate column"),
        ("t.csv", b"model,a\x1b[2J,b\nx,1,2\ny,2,1", r"'a\\x1b\[2J' has characters that cannot"),
        ("t.csv", b"a,b\n1,\xff", "must be UTF-8"),
        ("t.csv", b"\xef\xbb\xbf\0", "cannot be shown"),
        ("t.csv", b"x" * 2000 + b",b\n1,2", "is longer than 1000"),
        ("t.json", b"[" * 100_000, "is not JSON"),
        ("t.json", b'{"a":' * 100_000, "is not JSON"),
        ("t.json", b'[{"a":' + b"[" * 300 + b"]" * 300 + b"}]", "must be a number or a text"),
        ("t.json", b"[" + b"{}," * (5 * MEBI) + b"{}]", "at most 4194304 cells"),
        ("t.json", b'{"a":[1' + b"0" * 100_000 + b"]}", "is not JSON"),
        ("t.json", b'{"\\ud800":[1]}', r"'\\ud800' has characters that cannot"),
        ("t.json", b'[{"a":1,"a":2}]', "duplicate name"),
        (
            "t.json",
            json.dumps([{f"{i}": 1} for i in range(3000)]).encode(),
            "at most 4194304 cells",
        ),
        ("t.npy", npy("(1000000000000, 2)"), "declares an array"),
        ("t.npy", npy("(10000000000000000000000000, 2)"), "declares an array"),
        ("t.npy", npy("(-1, 2)"), "is not a NumPy file"),
        ("t.npy", npy("(1000000000000000000, 2)", "'|V0'"), "is not a NumPy file"),
        ("t.npy", npy("(1000000000, 2)", "'<U0'"), "declares an array"),
        ("t.npy", npy("(1, 1)", "'<U1'", b"\xff\xff\xff\xff"), "not characters"),
        ("t.npy", npy("(1, 1)", "'|O'", b"cos\nsystem\n."), "Object arrays are refused"),
        ("t.npy", npy("(1,)", "[('a', '<f8')]", bytes(8)), "must hold numbers or texts"),
        ("t.npy", npy("(" * 200 + ")" * 200), "is not a NumPy file"),
        ("t.npz", archive(a=npy("(100000000,)")), "declares an array"),
        ("t.npz", archive(a=bytes(80 * MEBI)), "must hold at most|unpack to"),
        ("t.npz", archive(**{f"a{i}": b"" for i in range(5000)}), "at most 4096 arrays"),
    ],
    ids=range(28),
)
def test_tables_made_to_hurt(name: str, data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with refused(message):
        read_table(tmp_path / name).policies(maximize=["a", "b"])


def test_headers_that_a_spreadsheet_has_broken_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('model,"score\n(mean)",b\nx,1,2\n"y\r\nz",2,1\n')
    table = read_table(tmp_path / "t.csv")
    assert list(table.columns) == ["model", "score (mean)", "b"]
    assert table.names() == ["x", "y z"]


def test_an_archive_that_bursts_is_no_task(tmp_path: Path) -> None:
    rewards = npy("(4194304, 2, 2)", data=bytes(128 * MEBI))
    (tmp_path / "t.npz").write_bytes(archive(rewards=rewards, reference=b""))
    with refused("unpack to"):
        read_task(tmp_path / "t.npz")


def test_a_long_table_with_one_very_long_prompt_is_refused(tmp_path: Path) -> None:
    rows = [f"{x},0,1,1,2" for x in range(6000)] + [f"0,{y},0,1,2" for y in range(1, 6000)]
    (tmp_path / "t.csv").write_text("prompt,response,reference,a,b\n" + "\n".join(rows))
    with refused("6000 prompts × 6000 responses × 2 objectives: must hold at most 16777216"):
        read_task(tmp_path / "t.csv")


def test_parquet_made_to_hurt(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow", reason="an optional extra")
    parquet = pytest.importorskip("pyarrow.parquet", reason="an optional extra")
    place = tmp_path / "t.parquet"

    def write(**columns: object) -> int:
        parquet.write_table(arrow.table(columns), place)
        return place.stat().st_size

    assert write(a=np.zeros(5 * MEBI), b=np.zeros(5 * MEBI)) < 200_000
    with refused("at most 4194304 cells"):
        read_table(place)
    # a dictionary of one long text, which a gigabyte of rows refer to
    texts = arrow.DictionaryArray.from_arrays(np.zeros(2000, np.int32), ["x" * MEBI])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows = arrow.table({"model": texts, "a": np.zeros(2000), "b": np.zeros(2000)})
    for known in (True, False):  # whether the file says that the column is of that kind
        parquet.write_table(rows, place, store_schema=known)
        assert place.stat().st_size < MEBI
        with refused("is longer than 1000", seconds=2):
            read_table(place).policies(maximize=["a", "b"])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 19  # KiB
    many = arrow.array(["x" * MEBI + str(i) for i in range(100)])
    parquet.write_table(arrow.table({"a": many}), place, use_dictionary=False, compression="zstd")
    with refused("when it is unpacked"):
        read_table(place)
    parquet.write_table(
        arrow.table({"a": many}),
        place,
        use_dictionary=False,
        column_encoding={"a": "DELTA_BYTE_ARRAY"},
    )
    with refused("DELTA_BYTE_ARRAY are not read"):
        read_table(place)
    write(a=[[1.0], [2.0]], b=[1.0, 2.0])
    with refused("must hold numbers or texts"):
        read_table(place)


# Artifacts.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "run" / "artifacts"
    with write_artifact(made, "p") as inside:
        (inside / "weights").write_bytes(b"abc")
        (inside / "sub").mkdir()
        (inside / "sub" / "more").write_bytes(b"")
    (tmp_path / "run" / "artifacts-of-another").mkdir()
    (tmp_path / "x").write_text("outside")
    return made


BAD = ["../x", "../../x", "/etc/passwd", "a/../../b", "p/../p", "C:\\x", "a\\..\\..\\b"]
BAD += ["", ".", "./", "..", "x\0y", "\\\\host\\x", "p/\x1b[2J", "p/\ud800", "none", "x" * 5000]


@pytest.mark.parametrize("name", BAD, ids=lambda name: one_line(name, 16))
def test_no_name_of_an_artifact_leads_out(name: str, folder: Path) -> None:
    with refused("artifact "):
        locate_artifact(folder, name)
    if not name.startswith("/"):
        with refused("artifact ", kind=OracleAnswerError):
            seal(folder, name)


@pytest.mark.parametrize("name", [*BAD[:-2], "p/q", ".writing-p", ".replaced-p", "a\nb"], ids=repr)
def test_no_name_that_is_written_leads_out(name: str, folder: Path) -> None:
    before = sorted(folder.parent.parent.rglob("*"))
    with refused("must be a plain file name"), write_artifact(folder, name):
        pass
    assert sorted(folder.parent.parent.rglob("*")) == before


def test_no_link_leads_out(folder: Path) -> None:
    (folder / "out").symlink_to(folder.parent.parent)
    (folder / "near").symlink_to(folder.parent / "artifacts-of-another")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "in").symlink_to(folder / "p")
    for name in ("out", "out/x", "near", "loop", "loop/x"):
        with refused("artifact '.*(must be inside|no such)"):
            locate_artifact(folder, name)
    assert locate_artifact(folder, "in") == locate_artifact(folder, "p") == folder.resolve() / "p"
    (folder.parent / "round").symlink_to(folder.parent / "round")
    with refused("no such file"):
        locate_artifact(folder.parent / "round", "p")


def test_a_path_through_a_link_to_the_run_is_the_runs(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other").symlink_to(folder)
    for given in (folder / "p", tmp_path / "other" / "p"):
        for run in (folder, tmp_path / "other"):
            sealed = seal(run, str(given)) if run == tmp_path / "other" else seal(run, "p")
            assert sealed is not None
            assert sealed.path == "p"
    assert seal(folder, "/etc/passwd") is None  # outside, and not looked at
    assert seal(folder, "file:///etc/passwd") is None


def test_pipes_are_neither_opened_nor_hashed(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with refused("neither a file nor a folder", kind=OracleAnswerError):
        seal(folder, "pipe")
    with write_artifact(folder, "q") as inside:
        os.mkfifo(inside / "pipe")
    with refused("neither a file nor a folder", kind=OracleAnswerError):
        seal(folder, "q")


CHANGES: dict[str, Callable[[Path], object]] = {
    "one byte": lambda p: (p / "weights").write_bytes(b"abd"),
    "renamed": lambda p: (p / "weights").rename(p / "weighty"),
    "moved": lambda p: (p / "weights").rename(p / "sub" / "weights"),
    "an empty file more": lambda p: (p / "empty").touch(),
    "a file less": lambda p: (p / "sub" / "more").unlink(),
    "an empty folder more": lambda p: (p / "empty").mkdir(),
    "a link to the same": lambda p: (
        (p / "weights").rename(p.parent / "w"),
        (p / "weights").symlink_to(p.parent / "w"),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_noticed(change: str, folder: Path) -> None:
    sealed = seal(folder, "p")
    assert sealed is not None
    assert verify_artifact(folder, sealed) is None
    assert sealed.bytes == 3
    CHANGES[change](folder / "p")
    assert "has changed since" in (verify_artifact(folder, sealed) or "")


def test_the_name_of_one_entry_cannot_pass_for_two(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    (two / "a").symlink_to("b")
    (two / "c").symlink_to("d")
    (one / "a").symlink_to("b\n1 c link d")
    assert content_hash(one) != content_hash(two)


def test_names_and_depths_that_are_unusual_are_hashed(tmp_path: Path) -> None:
    deep = tmp_path / "deep"
    here, made = Path.cwd(), 0
    deep.mkdir()
    try:
        os.chdir(deep)
        while made < 1100:  # deeper than Python calls itself
            Path("d").mkdir()
            os.chdir("d")
            made += 1
        (deep / os.fsdecode(b"\xff\n")).touch()
        assert content_hash(deep)[1] == 0
    finally:
        for _ in range(made):  # nor could pytest remove it
            os.chdir("..")
            Path("d").rmdir()
        os.chdir(here)


def test_a_file_or_a_link_in_the_place_of_an_artifact_is_replaced(folder: Path) -> None:
    outside = folder.parent.parent / "x"
    (folder / "link").symlink_to(outside)
    (folder / "file").write_text("old")
    (folder / ".writing-q").symlink_to(outside.parent)
    for name in ("link", "file", "p", "q"):
        with write_artifact(folder, name) as inside:
            (inside / "new").write_text(name)
        assert [file.name for file in (folder / name).iterdir()] == ["new"]
        assert not (folder / name).is_symlink()
    assert outside.read_text() == "outside"
    assert sorted(file.name for file in folder.iterdir()) == ["file", "link", "p", "q"]


KILLED = """
import os, pathlib, signal, sys
from palm_core.run import artifacts

folder, where = pathlib.Path(sys.argv[1]), sys.argv[2]
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
if where == "removing":  # half of what the older one holds is gone
    def rmtree(path, **_):
        (pathlib.Path(path) / "weights").unlink()
        die()
    artifacts.shutil.rmtree = rmtree
if where == "renaming":
    pathlib.Path.rename = die
with artifacts.write_artifact(folder, "p") as inside:
    (inside / "new").write_text("half")
    if where == "writing":
        die()
    (inside / "more").write_text("whole")
"""


@pytest.mark.parametrize(
    ("where", "left"),
    [
        ("writing", {"weights", "sub"}),
        ("renaming", {"weights", "sub"}),
        ("removing", {"new", "more"}),
    ],
)
def test_a_killed_writer_leaves_a_whole_artifact_or_none(where, left, folder: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), where], timeout=15, capture_output=True
    )
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    assert {file.name for file in (folder / "p").iterdir()} == left
    with write_artifact(folder, "p") as inside:
        assert not list(inside.iterdir())
        (inside / "again").write_text("x")
    assert [file.name for file in (folder / "p").iterdir()] == ["again"]
    assert [file.name for file in folder.iterdir()] == ["p"]
