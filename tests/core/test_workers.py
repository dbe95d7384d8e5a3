"""Worker processes: they may do what they like, the driver goes on and leaves nothing behind."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from executor_rules import RULES, call, check_close, events_of, kinds, work
from process_table import below, children, is_running, marked, wait_until
from worker_oracles import OBJECTIVES, Make

from palm_core import InputError
from palm_core.geometry.compilation import available_cores
from palm_core.run.config import Execution, load_task, load_task_oracle
from palm_core.run.executors.protocol import (
    Answered,
    CallExecutor,
    Ended,
    Failure,
    Given,
    Here,
    Work,
)
from palm_core.run.executors.workers import WorkerProcesses, environment

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture(autouse=True)
def limit() -> Iterator[None]:
    """No test waits for ever."""

    def stop(*_: object) -> None:
        raise TimeoutError("the test takes more than a minute")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 60)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    while scripts:
        scripts.pop().kill()


scripts: list[subprocess.Popen[str]] = []


def processes(work: Work, workers: int = 1) -> WorkerProcesses:
    return WorkerProcesses(work, Execution(workers=workers))


MAKERS: dict[str, Callable[[Work], CallExecutor]] = {
    "here": Here,
    "one worker": processes,
    "two workers": partial(processes, workers=2),
}


@pytest.fixture(scope="module", params=MAKERS)
def executor(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[CallExecutor, Path]]:
    folder = tmp_path_factory.mktemp("run")
    made = MAKERS[request.param](work(folder))
    yield made, folder
    made.close()


@pytest.mark.parametrize("rule", RULES)
def test_rule(executor: tuple[CallExecutor, Path], rule: str) -> None:
    RULES[rule](*executor)


@pytest.mark.parametrize("maker", ["here", "one worker"])
def test_close(maker: str, tmp_path: Path) -> None:
    check_close(MAKERS[maker], tmp_path)


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Callable[..., WorkerProcesses]]:
    """Make workers that are closed, and of which nothing is left, after the test."""
    made: list[WorkerProcesses] = []

    def make(how: str = "well", make: object = None, **settings: object) -> WorkerProcesses:
        todo = Work(make or Make(tmp_path, how), OBJECTIVES, tmp_path)
        made.append(WorkerProcesses(todo, Execution(**settings), tmp_path / "logs"))
        return made[-1]

    yield make
    for one in made:
        left = [pid for worker in one._workers.values() for pid in below(worker.process.pid)]
        one.close()
        assert not any(map(is_running, left))


def pids(executor: WorkerProcesses) -> list[int]:
    """The worker processes: children of the processes that supervise them."""
    supervisors = [worker.process.pid for worker in executor._workers.values()]
    for supervisor in supervisors:
        wait_until(lambda pid=supervisor: children(pid))
    return [pid for supervisor in supervisors for pid in children(supervisor)]


def ended(events: list[object]) -> Failure:
    last = events[-1]
    assert isinstance(last, Ended)
    assert last.failure is not None
    return last.failure


# --- death ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        ("kill", "was killed by SIGKILL (the system may have run out of memory)"),
        ("crash", "was killed by SIGSEGV"),
        ("leave", "ended with exit code 3"),
    ],
)
def test_a_death_is_told_after_the_answers(
    workers, tmp_path: Path, trouble: str, says: str
) -> None:
    executor = workers()
    executor.submit(call(1, "none", "nap", "about", trouble, "none"))
    told: list[object] = []
    while not told:
        told += executor.events()
    (pid,) = pids(executor)
    wait_until(lambda: not Path(f"/proc/{pid}").exists())  # all its threads have ended
    while not isinstance(told[-1], Ended):
        told += executor.events()
    assert kinds(told) == ["answered", "answered", "answered", "died"]
    assert ended(told) == Failure("died", f"the worker process {says}; see worker-1.log")
    if trouble == "crash":  # compiled code that crashes says where
        assert "Segmentation fault" in (tmp_path / "logs" / "worker-1.log").read_text()
    # Another takes its place.
    (first, _) = events_of(executor, call(2, "about"))
    assert first.policy.info["pid"] != told[2].policy.info["pid"] == pid


def test_a_death_after_the_end_of_a_call_is_no_failure(workers, tmp_path: Path) -> None:
    executor = workers()
    executor.submit(call(1, "none", "wait", "artifact"))
    told: list[object] = []
    while not told:
        told += executor.events()
    (tmp_path / "go").touch()
    wait_until((tmp_path / "model").exists)
    time.sleep(0.3)
    (pid,) = pids(executor)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{pid}").exists())  # all its threads have ended
    while not isinstance(told[-1], Ended):
        told += executor.events()
    assert kinds(told) == ["answered", "answered", "answered", "ended"]
    # Noticed then or at the next call, which another worker answers.
    assert kinds(events_of(executor, call(2, "none"))) == ["answered", "ended"]
    assert pid not in pids(executor)


def test_others_go_on_when_one_dies(workers) -> None:
    executor = workers(workers=2)
    told = events_of(executor, call(1, "none", "kill"), call(2, "none", "nap", "none"))
    assert kinds([event for event in told if event.call == 1]) == ["answered", "died"]
    assert kinds([event for event in told if event.call == 2]) == ["answered"] * 3 + ["ended"]


def test_a_worker_that_died_idle_is_replaced(workers) -> None:
    executor = workers()
    (first, _) = events_of(executor, call(1, "about"))
    (worker,) = executor._workers.values()
    os.kill(first.policy.info["pid"], signal.SIGKILL)
    wait_until(lambda: worker.process.poll() is not None)
    told = events_of(executor, call(2, "about"))
    assert kinds(told) == ["answered", "ended"]


@pytest.mark.parametrize("trouble", ["large", "copy"])
def test_half_an_answer_is_none(workers, tmp_path: Path, trouble: str) -> None:
    """Killed while sending, or before, while a copy of it holds the channel open."""
    executor = workers()
    executor.submit(call(1, "none", trouble))
    told: list[object] = []
    while not told:
        told += executor.events()
    copy = tmp_path / "copy"
    wait_until(lambda: copy.exists() and copy.read_text() != "")
    (pid,) = pids(executor)
    # A large answer is on its way, and does not fit into the channel.
    wait_until(lambda: waits(pid))
    os.kill(pid, signal.SIGKILL)
    begun = time.monotonic()
    while not isinstance(told[-1], Ended):
        told += executor.events()
    assert time.monotonic() - begun < 5
    assert kinds(told) == ["answered", "died"]
    assert not is_running(int(copy.read_text()))


def waits(pid: int) -> bool:
    """Whether the process has done nothing for a while."""

    def used() -> list[str]:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]

    before = used()
    time.sleep(0.3)
    return used() == before


def test_a_large_answer_is_whole(workers) -> None:
    (first, last) = events_of(workers(), call(1, "large"))
    assert first.policy.prompt_rewards.shape == (500_000, 2)
    assert (first.policy.prompt_rewards == 1).all()
    assert last.failure is None


@pytest.mark.parametrize(
    ("trouble", "says"), [("unsendable", "local object"), ("unreadable", "invalid literal")]
)
def test_an_answer_that_cannot_be_sent_is_refused(workers, trouble: str, says: str) -> None:
    told = events_of(workers(), call(1, trouble, "none"))
    assert kinds(told) == ["refused refused", "answered", "ended"]
    assert told[0].failure.message.startswith("the answer cannot be sent by a worker: ")
    assert says in told[0].failure.message


# --- time ----------------------------------------------------------------------------


def test_each_answer_has_the_timeout_for_itself(workers, tmp_path: Path) -> None:
    executor = workers(timeout=1.0)
    begun = time.monotonic()
    told = events_of(executor, call(1, "nap", "nap", "nap", "start", "none"))
    assert 2.2 <= time.monotonic() - begun < 10
    assert kinds(told) == ["answered"] * 3 + ["timeout"]
    assert ended(told) == Failure("timeout", "no answer within 1 s")
    # What the oracle has started is gone too.
    for pid in map(int, (tmp_path / "started").read_text().split()):
        wait_until(lambda pid=pid: not is_running(pid))
    assert kinds(events_of(executor, call(2, "none"))) == ["answered", "ended"]


def test_workers_start_side_by_side(workers) -> None:
    """Four oracles that take two seconds each to be made do not take eight."""
    executor = workers("sleep", workers=4, timeout=2.0)
    begun = time.monotonic()
    told = events_of(executor, *(call(number, "none") for number in range(4)))
    assert time.monotonic() - begun < 7.5
    assert {event.failure for event in told} == {
        Failure("timeout", "the oracle was not made within 2 s")
    }


# --- making the oracle ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("raise", "ValueError: no such model"),
        ("others", "InputError: oracle.objectives = ('first', 'third'): must be"),
    ],
)
def test_an_oracle_that_cannot_be_made_is_hopeless(workers, how: str, says: str) -> None:
    executor = workers(how)
    for number in range(2):
        failure = ended(events_of(executor, call(number, "none")))
        assert failure.hopeless
        assert failure.message.startswith(f"the oracle cannot be made in a worker process: {says}")
        assert "Traceback" in failure.detail


def test_a_worker_that_dies_making_the_oracle_has_died(workers) -> None:
    failure = ended(events_of(workers("leave"), call(1, "none")))
    assert (failure.kind, failure.hopeless) == ("died", False)
    assert "exit code 4" in failure.message


def test_what_cannot_be_pickled_is_refused_at_once(tmp_path: Path) -> None:
    class Local:
        objectives = OBJECTIVES

    for make, name in ((Given(Local()), "Local"), (lambda: Given(Local()), "<lambda>")):
        with pytest.raises(InputError, match=f"^oracle .*{name}: cannot be handed to worker") as e:
            WorkerProcesses(Work(make, OBJECTIVES), Execution())
        assert "use executor = 'here'" in str(e.value)
        assert "\n" not in str(e.value)


def test_the_oracle_of_a_task_beside_its_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "neighbour_of_worker.py").write_text("scale = 3.0\n")
    (tmp_path / "oracle_of_worker.py").write_text(
        textwrap.dedent("""
        from pathlib import Path
        from palm_core import Policy

        class Own:
            objectives = ("first", "second")
            def __init__(self, table: Path, run_seed=0):
                self.text, self.seed = Path(table).read_text(), run_seed
            def solve(self, weights):
                from neighbour_of_worker import scale
                for row in weights:
                    yield Policy(id="own", weights=row, rewards=scale * row,
                                 info={"text": self.text, "seed": self.seed})
        """)
    )
    (tmp_path / "table.txt").write_text("read")
    (tmp_path / "task.toml").write_text(
        '[oracle]\nname = "oracle_of_worker:Own"\ntable = "table.txt"\n'
        "[grid]\nmu = 0.5\nalpha = 0.1\n[run]\nseed = 5\n"
    )
    make = partial(load_task_oracle, load_task(tmp_path / "task.toml"))
    assert make().objectives == OBJECTIVES  # as the driver does before
    executor = WorkerProcesses(Work(make, OBJECTIVES), Execution())
    try:
        (first, last) = events_of(executor, call(1, "none"))
    finally:
        executor.close()
        sys.modules.pop("oracle_of_worker", None)
        sys.modules.pop("neighbour_of_worker", None)
    assert last.failure is None
    np.testing.assert_array_equal(first.policy.rewards, [0.0, 3.0])
    assert first.policy.info == {"text": "read", "seed": 5}


# --- surroundings --------------------------------------------------------------------


def test_what_a_worker_prints_is_in_its_log(workers, tmp_path: Path, capfd) -> None:
    executor = workers(workers=2)
    assert not (tmp_path / "logs").exists()
    events_of(executor, call(1, "print"))
    log = tmp_path / "logs" / "worker-1.log"
    assert log.read_text() == "from Python\nfrom C\nan error\n"
    assert [file.name for file in log.parent.iterdir()] == ["worker-1.log"]
    events_of(executor, call(1, "kill"))
    events_of(executor, call(1, "print"))
    assert log.read_text() == "from Python\nfrom C\nan error\n" * 2
    assert capfd.readouterr() == ("", "")


def test_without_a_log_nothing_goes_to_standard_output(tmp_path: Path, capfd) -> None:
    executor = processes(work(tmp_path))
    events_of(executor, call(1, "print"))
    executor.close()
    out, err = capfd.readouterr()
    assert out == ""
    assert err == "from Python\nfrom C\nan error\n"


def test_a_log_that_cannot_be_written_is_hopeless(workers, tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file")
    failure = ended(events_of(workers(), call(1, "none")))
    assert failure.hopeless
    assert failure.message.startswith("a worker process cannot be started: FileExistsError: ")
    assert "logs" in failure.message


def test_threads_and_devices_of_each_worker(workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "a,b,c,d")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    before = dict(os.environ)
    executor = workers(workers=2, threads=3, num_gpus=2)
    told = events_of(executor, call(1, "about"), call(2, "about"))
    assert dict(os.environ) == before
    seen = {e.call: e.policy.info["environment"] for e in told if isinstance(e, Answered)}
    assert seen[1]["CUDA_VISIBLE_DEVICES"] == "a,b"
    assert seen[2]["CUDA_VISIBLE_DEVICES"] == "c,d"
    for names in seen.values():
        for library in ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "NUMBA"):
            assert names[f"{library}_NUM_THREADS"] == "3"
        assert names["VECLIB_MAXIMUM_THREADS"] == "3"
    with pytest.raises(InputError, match="num_gpus"):
        workers(workers=3, num_gpus=2)


def test_fewer_threads_of_the_users_own_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = available_cores()
    monkeypatch.setenv("OMP_NUM_THREADS", "1,2")
    monkeypatch.setenv("MKL_NUM_THREADS", str(10 * cores))
    monkeypatch.setenv("NUMBA_NUM_THREADS", "many")
    found = environment(Execution(), 0)
    assert ("OMP_NUM_THREADS" in found) == (cores == 1)
    assert found["MKL_NUM_THREADS"] == found["NUMBA_NUM_THREADS"] == str(cores)
    assert environment(Execution(threads=2), 0)["OMP_NUM_THREADS"] == "2"


def test_more_calls_than_slots_are_refused(workers) -> None:
    executor = workers()
    executor.submit(call(1, "none", "sleep"))
    while not executor.events():
        pass
    with pytest.raises(RuntimeError, match="1 slots are busy"):
        executor.submit(call(2, "none"))


def test_workers_serve_threads_that_end(workers) -> None:
    """A worker outlives the thread that started it."""
    executor = workers()
    told: list[object] = []
    thread = threading.Thread(target=lambda: told.extend(events_of(executor, call(1, "about"))))
    thread.start()
    thread.join()
    time.sleep(0.1)
    (again, _) = events_of(executor, call(2, "about"))
    assert again.policy.info["pid"] == told[0].policy.info["pid"]


def test_a_worker_that_cannot_be_started_is_a_failure(workers) -> None:
    executor = workers()
    events_of(executor, call(1, "kill"))  # what is started once and for all is there now
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  a Path holds one open
    for spare in (0, 2, 4):
        resource.setrlimit(resource.RLIMIT_NOFILE, (opened - 1 + spare, hard))
        try:
            failure = ended(events_of(executor, call(2, "none")))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert (failure.kind, failure.hopeless) == ("died", False)
        assert failure.message.startswith("a worker process cannot be started: OSError: ")
        assert len(os.listdir("/proc/self/fd")) == opened  # noqa: PTH208  a Path holds one open
    assert kinds(events_of(executor, call(3, "none"))) == ["answered", "ended"]


# --- the driver ends -----------------------------------------------------------------

SCRIPT = """
import os, sys, time
from pathlib import Path
from palm_core.run.executors.protocol import Work
from palm_core.run.config import Execution
from palm_core.run.executors.workers import WorkerProcesses
sys.path.append({here!r})
from executor_rules import call, work

def main():
    executor = WorkerProcesses(work(Path({folder!r})), Execution(workers=2))
    try:
        executor.submit(call(1, "start"))
        executor.submit(call(2, "none", "hold"))
        while True:
            for event in executor.events():
                if {copied} and os.fork() == 0:
                    time.sleep(60)
                print(type(event).__name__, getattr(event, "failure", None), flush=True)
                if getattr(event, "failure", None):
                    raise SystemExit(3)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
{end}
"""


def script(folder: Path, *, end: str, copied: bool = False) -> subprocess.Popen[str]:
    file = folder / "script.py"
    here = str(Path(__file__).parent)
    file.write_text(SCRIPT.format(here=here, folder=str(folder), end=end, copied=copied))
    driver = subprocess.Popen(
        # It ends without close().
        [sys.executable, "-W", "error", "-W", "ignore::ResourceWarning", file],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PALM_TEST": str(folder)},
        start_new_session=True,
    )
    scripts.append(driver)
    return driver


GUARDED = "if __name__ == '__main__':\n    main()\n"


def started(folder: Path, driver: subprocess.Popen[str], *, copied: bool = False) -> list[int]:
    """All processes that a script has started."""
    file = folder / "started"
    wait_until(lambda: file.exists() and len(file.read_text().split()) == 2, 20)
    assert driver.stdout is not None
    assert driver.stdout.readline() == "Answered None\n"
    found = below(driver.pid)
    # Two workers, a supervising process each, a process of an oracle; a copy of the driver.
    assert len(found) == 5 + copied
    assert {*map(int, file.read_text().split())} < {*found}
    return found


def test_workers_end_with_a_killed_driver(tmp_path: Path) -> None:
    """Even those in compiled code, and what an oracle has started."""
    driver = script(tmp_path, end=GUARDED)
    left = started(tmp_path, driver)
    driver.kill()
    assert wait_until(lambda: not any(map(is_running, left)), 5) < 2
    driver.communicate(timeout=10)


def test_workers_end_with_a_killed_driver_of_which_a_copy_lives(tmp_path: Path) -> None:
    """A forked copy holds all that the driver had open."""
    driver = script(tmp_path, end=GUARDED, copied=True)
    left = started(tmp_path, driver, copied=True)
    (copy,) = (pid for pid in left if os.getpgid(pid) == driver.pid)
    left.remove(copy)
    driver.kill()
    try:
        assert wait_until(lambda: not any(map(is_running, left)), 5) < 3
        assert is_running(copy)
    finally:
        os.kill(copy, signal.SIGKILL)
    driver.communicate(timeout=10)


def test_a_worker_whose_supervising_process_is_killed_has_died(workers, tmp_path: Path) -> None:
    executor = workers()
    executor.submit(call(1, "none", "hold"))
    told: list[object] = []
    while not told:
        told += executor.events()
    (pid,) = pids(executor)
    (worker,) = executor._workers.values()
    os.kill(worker.process.pid, signal.SIGKILL)
    while not isinstance(told[-1], Ended):
        told += executor.events()
    assert kinds(told) == ["answered", "died"]
    wait_until(lambda: not is_running(pid), 2)


def test_closing_in_a_forked_copy_leaves_the_workers_alone(workers) -> None:
    executor = workers()
    (first, _) = events_of(executor, call(1, "about"))
    copy = os.fork()
    if copy == 0:
        executor.close()
        os._exit(0)
    os.waitpid(copy, 0)
    (again, _) = events_of(executor, call(2, "about"))
    assert again.policy.info["pid"] == first.policy.info["pid"]


def test_ctrl_c_reaches_the_driver_alone(tmp_path: Path) -> None:
    driver = script(tmp_path, end=GUARDED)
    left = started(tmp_path, driver)
    os.killpg(driver.pid, signal.SIGINT)  # as the terminal does
    out, err = driver.communicate(timeout=20)
    # It ends without close(): the workers do not hold it up.
    assert (out, err, driver.returncode) == ("interrupted\n", "", 0)
    wait_until(lambda: not any(map(is_running, left)), 5)


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.05, 0.1, 0.3])
def test_ctrl_c_while_workers_start(tmp_path: Path, delay: float) -> None:
    driver = script(tmp_path, end="time.sleep(0.5)\n" + GUARDED)  # the workers import this too
    wait_until(lambda: children(driver.pid), 20)
    time.sleep(delay)
    os.killpg(driver.pid, signal.SIGINT)
    out, err = driver.communicate(timeout=20)
    assert (out, err, driver.returncode) == ("interrupted\n", "", 0)
    wait_until(lambda: not marked(str(tmp_path)), 5)


def test_a_worker_never_minds_ctrl_c(workers) -> None:
    """Neither while Python starts, nor while it imports, nor while it works."""
    executor = workers()
    executor.submit(call(1, "nap"))
    (pid,) = pids(executor)
    done = threading.Event()

    def interrupt() -> None:
        while not done.wait(0.002):
            os.kill(pid, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    told: list[object] = []
    try:
        while not told or not isinstance(told[-1], Ended):
            told += executor.events()
    finally:
        done.set()
        thread.join()
    assert kinds(told) == ["answered", "ended"]


def test_a_script_without_its_guard_says_so_and_ends(tmp_path: Path) -> None:
    driver = script(tmp_path, end="main()\n")
    out, err = driver.communicate(timeout=30)
    assert driver.returncode == 3
    assert out.count("Ended") == 1
    assert "hopeless=True" in out
    assert '`if __name__ == "__main__":`' in out
    assert "An attempt has been made to start a new process before" in err
