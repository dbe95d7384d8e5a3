"""Oracle calls on a real Ray of two CPUs on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from executor_rules import RULES, call, check_close, events_of, kinds, work
from worker_oracles import OBJECTIVES, Make

import ray
from palm_core import Execution, InputError, TabularOracle
from palm_core.plugin import load_task, load_task_oracle
from palm_core.run.executors.protocol import (
    Answered,
    Call,
    Ended,
    Event,
    Given,
    Here,
    Refused,
    Work,
)
from palm_core.run.executors.ray import RayWorkers


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[str]:
    """The address of the cluster that this process is connected to."""
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "error"}
    context = ray.init(address="local", num_cpus=2, **quiet)
    yield context.address_info["gcs_address"]
    ray.shutdown()


def workers(work: Work, count: int = 1, **settings: object) -> RayWorkers:
    return RayWorkers(work, Execution(executor="ray", workers=count, **settings))


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., RayWorkers]]:
    """Makes executors for ``work(tmp_path)`` and closes them."""
    made: list[RayWorkers] = []

    def one(count: int = 1, how: str = "well", logs: Path | None = None, **settings: object):
        execution = Execution(executor="ray", workers=count, **settings)
        made.append(RayWorkers(Work(Make(tmp_path, how), OBJECTIVES, tmp_path), execution, logs))
        return made[-1]

    yield one
    for executor in made:
        executor.close()


def ended(events: list[Event]) -> Ended:
    (one,) = [event for event in events if isinstance(event, Ended)]
    return one


def process_of(executor: RayWorkers, number: int = 0) -> int:
    """The id of the process that makes the calls."""
    answered, _ = events_of(executor, call(number, "about"))
    assert isinstance(answered, Answered)
    return int(answered.policy.info["pid"])


def alive(process: int) -> bool:
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return False
    return "State:\tZ" not in status


def wait_for(what: Callable[[], bool], seconds: float = 100.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@pytest.fixture(scope="class")
def shared(
    cluster: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RayWorkers, Path]]:
    folder = tmp_path_factory.mktemp("run")
    executor = workers(work(folder), 2)
    yield executor, folder
    executor.close()


class TestRules:
    """What holds for all executors, with one pair of actors, which have the whole cluster."""

    @pytest.mark.parametrize("rule", RULES)
    def test_rule(self, rule: str, shared: tuple[RayWorkers, Path]) -> None:
        RULES[rule](*shared)

    def test_answers_that_cannot_be_sent_are_refused(self, shared: tuple[RayWorkers, Path]) -> None:
        told = events_of(shared[0], call(1, "none", "unsendable", "unreadable", "none"))
        assert kinds(told) == [
            *("answered", "refused refused", "refused refused", "answered", "ended")
        ]


class TestAnswers:
    """What comes from the cluster is what would have come from this process."""

    def test_are_the_same_to_the_bit(self) -> None:
        rewards = np.random.default_rng(3).normal(size=(7, 5, 3))
        oracle = TabularOracle(rewards, beta=0.3)
        asked = np.random.default_rng(4).dirichlet(np.ones(3), size=12)
        source = Work(Given(oracle), oracle.objectives)
        here = Here(source)
        executor = workers(source, 2)
        calls = [Call(number, asked[number * 3 : number * 3 + 3]) for number in range(4)]
        expected = [event for one in calls for event in events_of(here, one)]
        told = events_of(executor, *calls[:2]) + events_of(executor, *calls[2:])
        executor.close()
        told.sort(key=lambda event: event.call)  # stable: the order within a call is kept
        assert kinds(told) == kinds(expected) == ["answered", "answered", "answered", "ended"] * 4
        for one, other in zip(told, expected, strict=True):
            if not isinstance(one, Answered) or not isinstance(other, Answered):
                assert one == other
                continue
            assert one.call == other.call
            for name, value in vars(other.policy).items():
                found = getattr(one.policy, name)
                np.testing.assert_array_equal(found, value, strict=isinstance(value, np.ndarray))
            assert one.policy.rewards.flags.writeable

    def test_come_from_a_module_beside_the_task(self, tmp_path: Path) -> None:
        (tmp_path / "my_ray_oracle.py").write_text(
            textwrap.dedent("""
                from palm_core import Policy

                class Mine:
                    objectives = ("x", "y")

                    def __init__(self, scale, run_seed):
                        self.scale, self.seed = scale, run_seed

                    def solve(self, weights):
                        for row in weights:
                            rewards = self.scale * row + self.seed
                            yield Policy(id=str(row), weights=row, rewards=rewards)
            """)
        )
        (tmp_path / "task.toml").write_text(
            '[oracle]\nname = "my_ray_oracle:Mine"\nscale = 3.0\n'
            "[grid]\nmu = 0.5\nalpha = 0.1\n[run]\nseed = 5\n"
        )
        task = load_task(tmp_path / "task.toml")
        executor = workers(Work(partial(load_task_oracle, task), ("x", "y")))
        answered, last = events_of(executor, Call(0, np.array([[0.25, 0.75]])))
        executor.close()
        assert last == Ended(0, None)
        assert isinstance(answered, Answered)
        np.testing.assert_array_equal(answered.policy.rewards, [5.75, 7.25])

    def test_of_two_calls_come_as_they_are_ready(
        self, make: Callable[..., RayWorkers], tmp_path: Path
    ) -> None:
        executor = make(2)
        executor.submit(call(1, "none", "wait"))
        told: list[Event] = []
        told += events_of(executor, call(2, "none", "none"))
        assert [event.call for event in told].count(2) == 3
        assert not any(isinstance(event, Ended) for event in told if event.call == 1)
        (tmp_path / "go").touch()
        while sum(isinstance(event, Ended) for event in told) < 2:
            told += executor.events()
        assert kinds([event for event in told if event.call == 1]) == [
            *("answered", "answered", "ended")
        ]


class TestDeath:
    """A worker that dies takes its call with it, and nothing else."""

    def test_killed_in_a_call(
        self, make: Callable[..., RayWorkers], tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        executor = make()
        executor.submit(call(1, "none", "start"))
        told = [*executor.events()]
        assert kinds(told) == ["answered"]
        wait_for((tmp_path / "started").exists)
        wait_for(lambda: len((tmp_path / "started").read_text().split()) == 2)
        victim, _ = map(int, (tmp_path / "started").read_text().split())
        os.kill(victim, signal.SIGKILL)
        told = [*executor.events()]
        assert kinds(told) == ["died"]
        failure = ended(told).failure
        assert failure is not None
        assert not failure.hopeless
        assert f"process {victim}" in failure.message
        assert "\n" not in failure.message
        assert "worker process has died" in failure.detail
        time.sleep(0.3)  # for Ray to say so
        assert process_of(executor) != victim
        assert capfd.readouterr().out == ""

    def test_is_told_from_a_lost_machine_however_late_ray_notices(
        self, make: Callable[..., RayWorkers], tmp_path: Path
    ) -> None:
        executor = make()
        executor.submit(call(1, "start"))
        told: list[Event] = []
        # No event says that the long call has begun, so wait for its file.
        waiting = threading.Thread(target=lambda: told.extend(executor.events()))
        waiting.start()
        wait_for(lambda: len(started(tmp_path)) == 2)
        (raylet,) = children("raylet")
        os.kill(raylet, signal.SIGSTOP)  # as one that gets no processor time
        try:
            os.kill(started(tmp_path)[0], signal.SIGKILL)
            waiting.join(timeout=3)  # Ray itself waits 1 s
        finally:
            os.kill(raylet, signal.SIGCONT)
        waiting.join()
        assert kinds(told) == ["died"]
        assert kinds(events_of(executor, call(2, "none"))) == ["answered", "ended"]

    @pytest.mark.parametrize("trouble", ["crash", "leave"])
    def test_by_its_own_hand(self, make: Callable[..., RayWorkers], trouble: str) -> None:
        executor = make()
        # Ray sends an answer after it was given: a process that is gone at once may take it
        # along, and it is asked for again. What the call ends with is sure.
        told = kinds(events_of(executor, call(1, "none", trouble, "none")))
        assert told in (["answered", "died"], ["died"])
        assert kinds(events_of(executor, call(2, "none"))) == ["answered", "ended"]

    def test_of_one_leaves_the_other(self, make: Callable[..., RayWorkers], tmp_path: Path) -> None:
        executor = make(2)
        executor.submit(call(1, "wait"))
        assert kinds(events_of(executor, call(2, "kill"))) == ["died"]
        (tmp_path / "go").touch()
        told = [*executor.events()]
        while not isinstance(told[-1], Ended):
            told += executor.events()
        assert kinds(told) == ["answered", "ended"]


class TestTimeout:
    """The clock starts when a worker takes the call, and again with each answer."""

    def test_starts_again_with_each_answer(self, make: Callable[..., RayWorkers]) -> None:
        executor = make(timeout=2.5)
        victim = process_of(executor)
        told = events_of(executor, call(1, *["nap"] * 7, "sleep"))
        assert kinds(told) == [*["answered"] * 7, "timeout"]
        failure = ended(told).failure
        assert failure is not None
        assert failure.message == "no answer in 2.5 s"
        wait_for(lambda: not alive(victim))
        assert kinds(events_of(executor, call(2, "none"))) == ["answered", "ended"]

    def test_holds_beside_a_busy_neighbour(self, make: Callable[..., RayWorkers]) -> None:
        executor = make(2, timeout=2.5)
        assert len({process_of(executor), process_of(executor)}) == 1
        executor.submit(call(1, "sleep"))
        executor.submit(call(2, *["nap"] * 12))
        told: list[Event] = []
        while not any(isinstance(event, Ended) for event in told):
            told += executor.events()
        assert ended(told).call == 1
        assert kinds([ended(told)]) == ["timeout"]

    def test_is_for_making_the_oracle_too(self, make: Callable[..., RayWorkers]) -> None:
        assert kinds(events_of(make(how="sleep", timeout=0.5), call(1, "none"))) == ["timeout"]

    def test_does_not_count_the_wait_for_room(self, make: Callable[..., RayWorkers]) -> None:
        first, second = make(num_cpus=2.0), make(timeout=2.5)
        first.submit(call(1, *["nap"] * 8))
        while not first.events():
            pass
        second.submit(call(2, "none"))
        told = events_of(first)
        while not told or not isinstance(told[-1], Ended):
            told += first.events()
        first.close()
        while not isinstance(told[-1], Answered):
            told += second.events()
        assert told[-1].call == 2


class TestMaking:
    """An oracle that cannot be made ends the run, in words."""

    @pytest.mark.parametrize(
        ("how", "says"), [("raise", "no such model"), ("others", "must be ('first', 'second')")]
    )
    def test_fails(self, make: Callable[..., RayWorkers], how: str, says: str) -> None:
        (told,) = events_of(make(how=how), call(1, "none", "none"))
        assert isinstance(told, Ended)
        assert told.failure is not None
        assert told.failure.hopeless
        assert told.failure.message.startswith("the oracle cannot be made in a worker: ")
        assert says in told.failure.message
        assert "Traceback" in told.failure.detail

    def test_of_what_cannot_be_pickled_is_refused(self) -> None:
        with pytest.raises(InputError, match=r"oracle .*: cannot be handed to Ray workers"):
            workers(Work(threading.Lock().acquire, OBJECTIVES))

    def test_a_folder_that_nodes_do_not_share_is_refused(self, tmp_path: Path) -> None:
        folder = tmp_path / "run" / "artifacts"
        executor = workers(Work(MakeFolder(folder), OBJECTIVES, folder))
        told = events_of(executor, call(1, "none", "artifact"))
        executor.close()
        assert kinds(told) == ["answered", "refused refused", "ended"]
        refused = told[1]
        assert isinstance(refused, Refused)
        assert refused.failure.hopeless
        assert "not on a file system that all nodes share" in refused.failure.message


class MakeFolder(Make):
    """Makes the run's folder for artifacts, as ``write_artifact`` does."""

    def __call__(self):
        self.folder.mkdir(parents=True)
        return super().__call__()


class TestRoom:
    """Workers and calls need room in the cluster."""

    def test_more_workers_than_fit(self, make: Callable[..., RayWorkers]) -> None:
        executor = make(4)
        told = events_of(executor, *(call(number, "about", "nap") for number in range(4)))
        processes = {event.policy.info["pid"] for event in told if "pid" in info(event)}
        assert kinds(told).count("answered") == 8
        assert len(processes) == 2

    def test_nobody_can_have_it(self, make: Callable[..., RayWorkers]) -> None:
        executor = make(2, num_gpus=4)
        executor.patience = 0.5
        told = events_of(executor, call(1, "none"), call(2, "none"))
        assert [event.call for event in told] == [1, 2]
        failure = told[0].failure
        assert kinds(told) == ["lost", "lost"]
        assert failure is not None
        assert failure.hopeless
        assert failure.message == (
            "num_cpus = 1, num_gpus = 4: the cluster has 1 node with 2 CPUs and 0 GPUs, "
            "and each worker needs all of its share on one node"
        )

    def test_parts_of_several_devices_are_refused(self, make: Callable[..., RayWorkers]) -> None:
        with pytest.raises(InputError, match=r"num_gpus = 1\.5: Ray takes parts of one device"):
            make(num_gpus=1.5)

    @pytest.mark.parametrize(("threads", "seen"), [(None, "1"), (3, "3")])
    def test_threads(self, make: Callable[..., RayWorkers], threads: int | None, seen: str) -> None:
        (answered, _) = events_of(make(threads=threads), call(1, "about"))
        environment = info(answered)["environment"]
        names = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "NUMBA")
        found = [environment[f"{name}_NUM_THREADS"] for name in names]
        assert {*found, environment["VECLIB_MAXIMUM_THREADS"]} == {seen}


def info(event: Event) -> dict:
    return dict(event.policy.info) if isinstance(event, Answered) else {}


class TestClose:
    """Nothing of ours stays in a cluster that is not ours."""

    def test_is_quick_and_may_be_repeated(self, tmp_path: Path) -> None:
        check_close(workers, tmp_path, limit=40)

    def test_ends_actors_and_not_the_cluster(
        self, make: Callable[..., RayWorkers], tmp_path: Path
    ) -> None:
        executor = make(2, logs=tmp_path / "logs")
        process = process_of(executor)
        executor.submit(call(1, "sleep"))
        executor.close()
        wait_for(lambda: not alive(process))
        assert ray.is_initialized()
        wait_for(lambda: ray.available_resources().get("CPU") == 2)
        assert f"process {process}" in (tmp_path / "logs" / "ray.log").read_text()

    @pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
    def test_of_the_driver_ends_the_actors(
        self, cluster: str, tmp_path: Path, how: signal.Signals
    ) -> None:
        driver = start_driver(
            f"""
            executor = RayWorkers(work(folder), Execution(executor="ray", address={cluster!r}))
            executor.submit(call(1, "start"))
            try:
                executor.events()
            finally:
                executor.close()
            """,
            tmp_path,
        )
        with driver:
            wait_for(lambda: len(started(tmp_path)) == 2)
            driver.send_signal(how)
            out, err = driver.communicate(timeout=100)
        assert out == ""
        if how == signal.SIGINT:
            assert err.strip().endswith("KeyboardInterrupt")
        wait_for(lambda: not any(map(alive, started(tmp_path))))

    def test_may_follow_what_a_signal_handler_raises(self, make: Callable[..., RayWorkers]) -> None:
        class Enough(BaseException):
            pass

        def stop(*_: object) -> None:
            raise Enough

        executor = make()
        process = process_of(executor)
        executor.submit(call(1, "sleep"))
        before = signal.signal(signal.SIGUSR1, stop)
        timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        begun = time.monotonic()
        with pytest.raises(Enough):
            executor.events()
        assert time.monotonic() - begun < 30  # the call takes 60
        signal.signal(signal.SIGUSR1, before)
        timer.join()
        executor.close()
        wait_for(lambda: not alive(process))


def children(name: str) -> list[int]:
    """Processes with a program of that name which this process has started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            about, program = (folder / "stat").read_text(), (folder / "cmdline").read_text()
            parent = int(about.rpartition(")")[2].split()[1])
            if parent == os.getpid() and Path(program.partition("\0")[0]).name == name:
                found.append(int(folder.name))
    return found


def started(folder: Path) -> list[int]:
    file = folder / "started"
    return [int(word) for word in file.read_text().split()] if file.exists() else []


def start_driver(script: str, folder: Path) -> subprocess.Popen[str]:
    """A Python process of its own, with what the tests have."""
    core = str(Path(__file__).parents[1] / "core")
    code = f"""
import ray, signal, sys, time
from pathlib import Path
sys.path.append({core!r})
from executor_rules import call, events_of, kinds, work
from palm_core import InputError
from palm_core.run.config import Execution
from palm_core.run.executors.ray import RayWorkers
folder = Path({str(folder)!r})
""" + textwrap.dedent(script)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", code], text=True, **pipes)


class TestCluster:
    """Which cluster it is."""

    def test_a_new_one_ends_with_the_executor(self, tmp_path: Path) -> None:
        script = """
            handler = signal.signal(signal.SIGTERM, lambda *_: None)
            handler = signal.getsignal(signal.SIGTERM)
            try:
                RayWorkers(work(folder), Execution(executor="ray", num_gpus=4000))
            except InputError as error:
                print(error, file=sys.stderr)
            assert not ray.is_initialized()
            executor = RayWorkers(work(folder), Execution(executor="ray"))
            assert signal.getsignal(signal.SIGTERM) is handler
            # The answer may go with the process, as in TestDeath.test_by_its_own_hand.
            told = kinds(events_of(executor, call(1, "print", "kill")))
            assert told in (["answered", "died"], ["died"]), told
            time.sleep(0.5)
            executor.close()
            assert not ray.is_initialized()
        """
        before = os.environ.pop("RAY_ADDRESS", None)
        try:
            with start_driver(script, tmp_path) as driver:
                out, err = driver.communicate(timeout=250)
        finally:
            if before is not None:
                os.environ["RAY_ADDRESS"] = before
        assert driver.returncode == 0, err
        assert out == ""
        assert "num_gpus = 4000: the cluster has 1 node with " in err

    def test_the_connected_one_is_joined(self, make: Callable[..., RayWorkers], cluster: str):
        for address in (None, "auto", cluster):
            make(address=address)
        with pytest.raises(InputError, match=rf"connected to '{cluster}' already"):
            make(address="10.0.0.1:6379")

    @pytest.mark.parametrize(
        ("address", "says"),
        [
            ("127.0.0.1:1", r"no cluster answers there \(.*refused"),
            ("nonsense", "must be 'auto' or 'host:port'"),
            ("host:99999", "must be 'auto' or 'host:port'"),
            ("ray://127.0.0.1:10001", "Ray Client"),
        ],
    )
    def test_none_answers(
        self,
        make: Callable[..., RayWorkers],
        monkeypatch: pytest.MonkeyPatch,
        address: str,
        says: str,
    ) -> None:
        monkeypatch.setattr(ray, "is_initialized", lambda: False)
        begun = time.monotonic()
        with pytest.raises(InputError, match=says) as raised:
            make(address=address)
        assert "\n" not in str(raised.value)
        assert time.monotonic() - begun < 60  # Ray itself would take two minutes

    def test_ray_is_not_installed(
        self, make: Callable[..., RayWorkers], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "ray", None)
        with pytest.raises(InputError, match=r"executor = 'ray': .*palm-core\[ray\]"):
            make()
