"""Child processes: whatever ends them or this process, nothing of them is left."""

from __future__ import annotations

import os
import random
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from process_table import below, children, is_running, marked, state, wait_until

from palm_core.plugin import ChildProcess

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def python(script: str) -> list[str]:
    return [sys.executable, "-c", script]


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[str]:
    """A mark for the environment; no process that has it is left at the end of the test."""
    mark = f"PALM_TEST={tmp_path}"
    yield mark
    left = marked(mark)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []


@pytest.fixture
def start(mark: str) -> Iterator[Callable[..., ChildProcess]]:
    made = []

    def start(command: list[str], **options: object) -> ChildProcess:
        name, _, value = mark.partition("=")
        options["environment"] = {**os.environ, name: value}
        made.append(ChildProcess(command, **options))
        return made[-1]

    yield start
    for child in made:
        child.kill()


def command_of(child: ChildProcess) -> int:
    """The process id of its command."""
    wait_until(lambda: children(child.pid))
    return children(child.pid)[0]


# --- how it ends ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "code", "says"),
    [
        ("", 0, "ended with exit code 0"),
        ("import os; os._exit(3)", 3, "ended with exit code 3"),
        ("import os; os.abort()", -6, "was killed by SIGABRT"),
        (
            "import os; os.kill(os.getpid(), 9)",
            -9,
            "was killed by SIGKILL (the system may have run out of memory)",
        ),
        ("import os; os.kill(os.getpid(), 40)", -40, "was killed by signal 40"),
    ],
)
def test_its_end_is_that_of_the_command(start, script: str, code: int, says: str) -> None:
    child = start(python(script))
    assert child.wait() == child.poll() == code
    assert child.describe_end() == says
    child.kill()
    assert child.poll() == code


def test_a_crash_dumps_no_core_twice(start, tmp_path: Path) -> None:
    script = (
        f"import os, resource; os.chdir({str(tmp_path)!r}); "
        "hard = resource.getrlimit(resource.RLIMIT_CORE)[1]; "
        "resource.setrlimit(resource.RLIMIT_CORE, (hard, hard)); os.abort()"
    )
    assert start(python(script)).wait() == -signal.SIGABRT
    assert len(list(tmp_path.glob("core*"))) <= 1


def test_a_command_that_cannot_be_run_says_why(start) -> None:
    child = start(["/no/such/program"], output=subprocess.PIPE)
    with child.output:
        assert b"/no/such/program" in child.output.read()
    assert child.wait() == 1


def test_waiting_is_limited_and_the_end_can_be_selected(start) -> None:
    child = start(python("import time; time.sleep(1); import os; os._exit(4)"))
    assert child.wait(0.05) is None
    assert child.poll() is None
    assert child.describe_end() == "has not ended"
    assert select.select([child], [], [], 0.0)[0] == []
    assert select.select([child], [], [], 20.0)[0] == [child]
    assert child.wait(5) == 4


def test_kill_ends_it_and_may_be_repeated(start) -> None:
    child = start(SLEEP)
    pid = command_of(child)
    child.kill()
    assert not is_running(pid)
    assert child.poll() == -signal.SIGKILL
    child.kill()
    with start(SLEEP) as other:
        pid = command_of(other)
    assert not is_running(pid)


# --- what it is given ----------------------------------------------------------------


def test_output_input_environment_and_descriptors(start, tmp_path: Path) -> None:
    read, write = os.pipe()
    script = (
        "import os, sys; print(repr(sys.stdin.read()), flush=True); os.write(2, b'err')\n"
        f"os.write({write}, os.environ['PALM_TEST'].encode())"
    )
    log = tmp_path / "log"
    log.write_text("before\n")
    with log.open("ab") as output:
        child = start(python(script), output=output, pass_fds=[write])
    os.close(write)
    assert child.wait(30) == 0
    with os.fdopen(read, "rb") as stream:
        assert stream.read() == str(tmp_path).encode()
    assert log.read_text() == "before\n''\nerr"
    child = start(python("print('piped')"), output=subprocess.PIPE)
    with child.output:
        assert child.output.read() == b"piped\n"


def test_without_a_file_all_output_is_standard_error(start, capfd) -> None:
    assert start(python("import os; os.write(1, b'one '); os.write(2, b'two')")).wait() == 0
    assert capfd.readouterr() == ("", "one two")


def test_it_has_a_session_of_its_own_and_ignores_ctrl_c(start) -> None:
    script = "import os; print(os.getsid(0), os.getpgid(0), flush=True)\nimport time; time.sleep(1)"
    child = start(python(script), output=subprocess.PIPE)
    done = threading.Event()

    def interrupt() -> None:
        while not done.wait(0.002):
            for pid in children(child.pid):
                os.kill(pid, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with child.output:
        said = child.output.read()
    code = child.wait()
    done.set()
    thread.join()
    assert said.split() == [b"%d" % child.pid] * 2
    assert code == 0


# --- what it has started -------------------------------------------------------------

FAMILY = """
import subprocess, sys, time
stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"
sleep = [sys.executable, "-c", stubborn]
subprocess.Popen(sleep)
subprocess.Popen(sleep, start_new_session=True)  # as torchrun does
nested = f"import subprocess; subprocess.Popen({sleep!r}, start_new_session=True)"
subprocess.run([sys.executable, "-c", nested])  # whose parent has ended
print("started", flush=True)
"""


@pytest.mark.parametrize("ending", ["", "import os; os._exit(5)", "import os; os.abort()"])
def test_what_a_command_leaves_behind_is_killed(start, mark: str, ending: str) -> None:
    child = start(python(FAMILY + ending))
    assert child.wait() in (0, 5, -signal.SIGABRT)
    assert marked(mark) == []


def test_kill_ends_what_it_has_started_in_whatever_session(start, mark: str) -> None:
    child = start(python(FAMILY + "time.sleep(60)"), output=subprocess.PIPE)
    with child.output:
        assert child.output.readline() == b"started\n"
        assert len(marked(mark)) == 5
        begun = time.monotonic()
        child.kill()
        assert child.output.read() == b""
    assert time.monotonic() - begun < 3
    assert marked(mark) == []


def test_a_killed_supervising_process_is_the_end_of_the_group(start, mark: str) -> None:
    child = start(python("import ctypes; ctypes.PyDLL(None).sleep(60)"))
    pid = command_of(child)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    wait_until(lambda: not is_running(pid), 2)


def test_a_stopped_supervising_process_can_be_killed(start, monkeypatch) -> None:
    monkeypatch.setattr("palm_core.run.executors.process._GONE", 0.5)
    child = start(SLEEP)
    pid = command_of(child)
    os.kill(child.pid, signal.SIGSTOP)
    child.kill()
    wait_until(lambda: not is_running(pid), 2)
    assert child.poll() == -signal.SIGKILL


def test_nothing_stays_open_and_nothing_uncollected() -> None:
    def around() -> tuple[int, list[int]]:
        opened = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  a Path holds one open
        return opened, [pid for pid in children(os.getpid()) if state(pid) == "Z"]

    before = around()
    for number in range(12):
        script = FAMILY if number % 6 == 0 else ""
        with ChildProcess(python(script), output=subprocess.PIPE) as child:
            if number % 3:
                child.wait()
        child.output.close()
    assert around() == before


def test_a_process_that_cannot_be_started_leaves_nothing_open() -> None:
    opened = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  a Path holds one open
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for spare in range(3):
        resource.setrlimit(resource.RLIMIT_NOFILE, (opened - 1 + spare, hard))
        try:
            with pytest.raises(OSError, match="Too many open files"):
                ChildProcess(SLEEP)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert len(os.listdir("/proc/self/fd")) == opened  # noqa: PTH208  a Path holds one open


# --- this process ends ---------------------------------------------------------------

#: A driver whose child holds Python's lock in compiled code, beside a family of its own.
DRIVER = """
import os, sys, time
from palm_core.plugin import ChildProcess
child = ChildProcess([sys.executable, "-c", {command!r}])
if {copied}:
    os.fork()
time.sleep(60)
"""
HOLDING = FAMILY + "import ctypes; ctypes.PyDLL(None).sleep(60)"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("copied", [False, True], ids=["", "forked"])
def test_all_ends_with_this_process(mark: str, how: signal.Signals, copied: bool) -> None:
    name, _, value = mark.partition("=")
    driver = subprocess.Popen(
        python(DRIVER.format(command=HOLDING, copied=copied)),
        env={**os.environ, name: value},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert driver.stderr is not None
    assert driver.stderr.readline() == b"started\n"
    wait_until(lambda: len(below(driver.pid)) == 5 + copied, 20)
    (supervisor,) = (pid for pid in children(driver.pid) if os.getpgid(pid) != driver.pid)
    left = [supervisor, *below(supervisor)]
    driver.send_signal(how)
    driver.wait()
    try:
        assert wait_until(lambda: not any(map(is_running, left)), 5) < 3
    finally:
        if copied:
            os.killpg(driver.pid, signal.SIGKILL)
        driver.stderr.close()


#: Starts children until it is interrupted, at whatever instant.
STARTS = """
import sys
from palm_core.plugin import ChildProcess
try:
    print("ready", flush=True)
    while True:
        with ChildProcess([sys.executable, "-ISc", "import time; time.sleep(60)"]) as child:
            child.wait(0.02)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.stdin.read()
"""


def test_ctrl_c_at_any_instant_leaves_nothing_and_is_not_lost(mark: str) -> None:
    name, _, value = mark.partition("=")
    chance = random.Random()
    for _ in range(25):
        driver = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", STARTS],
            env={**os.environ, name: value},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert driver.stdin is not None
        assert driver.stdout is not None
        assert driver.stdout.readline() == b"ready\n"
        time.sleep(chance.uniform(0, 0.2))
        os.killpg(driver.pid, signal.SIGINT)
        assert driver.stdout.readline() == b"interrupted\n"
        # While the driver lives on.
        wait_until(lambda: set(marked(mark)) == {driver.pid}, 5)  # noqa: B023
        driver.communicate()
