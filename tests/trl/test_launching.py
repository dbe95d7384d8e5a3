from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tiny_tasks
from process_table import marked, wait_until
from test_training import AT_ONCE, EVEN, weights_of

from palm_core.errors import InputError, WorkError
from palm_trl import process as launching
from palm_trl.outcome import read_failure, write_failure
from palm_trl.process import command, run_call

FOLDER = Path("some") / "call"


def line(make_oracle, launcher, processes=1, launch=()):
    oracle = make_oracle(launcher=launcher, processes=processes, launch=list(launch))
    found = command(oracle, FOLDER)
    assert found[0] == sys.executable
    assert found[-3:] == ["-m", "palm_trl.process", str(FOLDER)]
    return found[1:-3]


def test_one_process_is_python_with_nothing_around_it(make_oracle):
    assert line(make_oracle, "python") == []


def test_several_are_started_by_torchrun(make_oracle):
    run = ["-m", "torch.distributed.run"]
    assert line(make_oracle, "torchrun", 2) == [*run, "--nproc-per-node", "2", "--standalone"]
    nodes = ["--nnodes=2", "--nproc_per_node=4", "--rdzv-endpoint=a:1"]
    assert line(make_oracle, "torchrun", 8, nodes) == [*run, *nodes]
    port = ["--master-port", "29600"]
    assert line(make_oracle, "torchrun", 2, port) == [*run, "--nproc-per-node", "2", *port]


def test_several_are_started_by_accelerate(make_oracle):
    run = ["-m", "accelerate.commands.launch"]
    port = ["--main_process_port", "0"]
    assert line(make_oracle, "accelerate", 2) == [*run, "--num_processes", "2", *port]
    given = ["--config_file", "deep.yaml"]
    assert line(make_oracle, "accelerate", 2, given) == [*run, "--num_processes", "2", *given]


def test_two_processes_by_torchrun_train_one_policy_and_the_first_measures(
    make_oracle, tmp_path, capfd
):
    rewards = {"short": "tiny_tasks:short", "long": "tiny_tasks:ranked"}
    oracle = make_oracle(launcher="torchrun", processes=2, rewards=rewards, trainer=AT_ONCE)
    run_call(oracle, EVEN, tmp_path)

    assert {file.name for file in tmp_path.iterdir()} == {
        *("call.json", "policy", "training.jsonl", "measurement.json")
    }
    assert any(
        "lora_B" in name and one.any() for name, one in weights_of(tmp_path / "policy").items()
    )
    lines = [json.loads(one) for one in (tmp_path / "training.jsonl").read_text().splitlines()]
    assert [one["step"] for one in lines] == [1, 2]
    assert lines[0]["kl"] == pytest.approx(0.0, abs=1e-6)
    # both ranks' rewards, 0 and 1, are seen by both
    assert lines[0]["rewards/long/mean"] == pytest.approx(0.5)
    told = capfd.readouterr().err
    assert told.count("step 2 of 2") == 1
    assert told.count("measured on") == 1


def test_an_error_in_the_process_is_raised_here_as_it_is(
    tiny_model, prompt_file, tmp_path, monkeypatch
):
    from palm_trl import GrpoOracle

    monkeypatch.setenv("WORLD_SIZE", "3")  # refused before anything heavy is imported
    rewards = {"one": "length", "other": "length"}
    oracle = GrpoOracle(model=tiny_model, prompts=prompt_file, rewards=rewards)
    with pytest.raises(InputError, match=r"^processes = 1: launcher = 'python' started 3"):
        run_call(oracle, EVEN, tmp_path)
    error = json.loads((tmp_path / "error.json").read_text())
    assert error["kind"] == "input"


def scripted(monkeypatch, script):
    """In place of a call's process: a script of Python."""
    monkeypatch.setattr(launching, "command", lambda *_: [sys.executable, "-c", script])


def test_a_process_that_dies_without_a_word_is_told_by_its_last_lines(
    make_oracle, tmp_path, monkeypatch, capfd
):
    oracle = make_oracle(launcher="python")
    scripted(monkeypatch, "import os; print('one\\n\\ntwo', flush=True); os._exit(7)")
    with pytest.raises(WorkError, match=r"ended with exit code 7; it said last: one \| two$"):
        run_call(oracle, EVEN, tmp_path)
    assert "one\n\ntwo" in capfd.readouterr().err
    scripted(monkeypatch, "import os; os.abort()")
    with pytest.raises(WorkError, match=r"process was killed by SIGABRT; it said last: nothing"):
        run_call(oracle, EVEN, tmp_path)
    scripted(monkeypatch, "")
    with pytest.raises(WorkError, match=r"process ended with exit code 0"):
        run_call(oracle, EVEN, tmp_path)


def test_an_old_error_is_not_taken_for_a_new_one(make_oracle, tmp_path, monkeypatch):
    write_failure(tmp_path, InputError("old"))
    scripted(monkeypatch, "")
    with pytest.raises(WorkError, match="exit code 0"):
        run_call(make_oracle(launcher="python"), EVEN, tmp_path)


def test_the_first_of_several_errors_stays(tmp_path):
    assert read_failure(tmp_path) is None
    write_failure(tmp_path, InputError("first\nline"))
    write_failure(tmp_path, WorkError("second"))
    found = read_failure(tmp_path)
    assert isinstance(found, InputError)
    assert str(found) == "first\\nline"
    assert [file.name for file in tmp_path.iterdir()] == ["error.json"]


def test_modules_in_reach_here_are_in_reach_there(make_oracle, tmp_path, monkeypatch):
    (tmp_path / "reach").mkdir()
    (tmp_path / "reach" / "besides.py").write_text("here = True")
    monkeypatch.syspath_prepend(str(tmp_path / "reach"))
    (tmp_path / "colorsys.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    script = (
        "import os, sys, pathlib, besides, colorsys\n"
        "assert os.environ['PALM_TEST'] == 'kept'\n"
        "assert str(pathlib.Path.cwd()) not in sys.path and '' not in sys.path\n"
        "os._exit(5)"
    )
    monkeypatch.setenv("PALM_TEST", "kept")
    scripted(monkeypatch, script)
    with pytest.raises(WorkError, match="exit code 5"):
        run_call(make_oracle(launcher="python"), EVEN, tmp_path / "call")


@pytest.fixture
def mark(tmp_path, monkeypatch):
    """In the environment of all that is started; kills what is left."""
    monkeypatch.setenv("PALM_TEST", str(tmp_path))
    yield f"PALM_TEST={tmp_path}"
    for pid in marked(f"PALM_TEST={tmp_path}"):
        os.kill(pid, signal.SIGKILL)


#: Asks for a call whose first reward says that it is computed, and then holds Python's lock.
ASKER = """
import sys
sys.path.extend({paths!r})
import tiny_tasks
from palm_trl.process import run_call
rewards = {{"short": "tiny_tasks:short", "long": "tiny_tasks:holding"}}
oracle = tiny_tasks.make_oracle({model!r}, {prompts!r}, launcher={launcher!r},
                                processes={processes}, rewards=rewards)
run_call(oracle, [0.5, 0.5], {folder!r})
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("launcher", "how"), [("python", signal.SIGINT), ("torchrun", signal.SIGKILL)]
)
def test_a_call_ends_with_its_caller_even_in_compiled_code(
    launcher, how, mark, tiny_model, prompt_file, tmp_path, monkeypatch
):
    processes = 2 if launcher == "torchrun" else 1
    monkeypatch.setenv("PALM_TEST_HOLDING", str(tmp_path / "holding"))
    (tmp_path / "holding").mkdir()
    script = ASKER.format(
        paths=sys.path,
        model=str(tiny_model),
        prompts=str(prompt_file),
        launcher=launcher,
        processes=processes,
        folder=str(tmp_path / "call"),
    )
    caller = subprocess.Popen(
        [sys.executable, "-c", script], stderr=subprocess.DEVNULL, start_new_session=True
    )
    wait_until(lambda: len(list((tmp_path / "holding").iterdir())) == processes, 120)
    assert len(marked(mark)) >= 2 + processes
    os.killpg(caller.pid, how)
    assert caller.wait(10) != 0
    wait_until(lambda: not marked(mark), 5)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_ctrl_c_ends_the_process_and_is_passed_on(mark, tmp_path):
    script = f"import pathlib, time; pathlib.Path({str(tmp_path / 'up')!r}).touch(); time.sleep(60)"

    def interrupt():
        wait_until((tmp_path / "up").exists, 30)
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Thread(target=interrupt)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        launching._run([sys.executable, "-c", script])
    timer.join()
    assert (tmp_path / "up").exists()
    assert marked(mark) == []


def test_output_that_is_kept_open_does_not_hold_a_call_up(make_oracle, tmp_path, monkeypatch):
    """By a process that could not be ended; here one that is no descendant."""
    monkeypatch.setattr(launching, "LAST_OUTPUT", 0.5)
    done, closed = threading.Event(), threading.Event()

    def pass_on(stream, _):
        with stream:
            done.wait(20)
        closed.set()

    monkeypatch.setattr(launching, "_pass_on", pass_on)
    scripted(monkeypatch, "import os; os._exit(7)")
    begun = time.monotonic()
    with pytest.raises(WorkError, match="exit code 7"):
        run_call(make_oracle(launcher="python"), EVEN, tmp_path)
    assert time.monotonic() - begun < 10
    done.set()
    assert closed.wait(20)


def test_without_posix_a_call_runs_here(make_oracle, monkeypatch):
    monkeypatch.delattr(os, "killpg")
    with pytest.raises(InputError, match=r"^launcher = 'python': needs a POSIX system; use 'here'"):
        make_oracle(launcher="python")
    make_oracle(launcher="here")


def test_other_processes_than_asked_for_are_refused(make_oracle, monkeypatch):
    from palm_trl.process import _check_place

    monkeypatch.setenv("WORLD_SIZE", "1")
    with pytest.raises(InputError, match=r"processes = 2: launcher = 'accelerate' started 1"):
        _check_place(make_oracle(launcher="accelerate", processes=2))


def test_fewer_gpus_than_processes_are_refused(make_oracle, monkeypatch):
    import torch

    from palm_trl.process import _check_place

    oracle = make_oracle(launcher="torchrun", processes=4, device="auto")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "4")
    with pytest.raises(InputError, match=r"processes = 4: 4 on this machine, which shows 2 GPUs"):
        _check_place(oracle)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    _check_place(oracle)


@pytest.mark.parametrize(("visible", "left"), [("2,3", "2"), (None, "0"), ("", ""), ("1", "1")])
def test_a_call_of_one_process_takes_the_first_gpu_it_may_use(
    visible, left, make_oracle, monkeypatch
):
    from palm_trl.process import _check_place

    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible or "")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    _check_place(make_oracle(device="auto"))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == left


def test_here_is_in_this_process_and_gives_the_same(make_oracle, tmp_path, monkeypatch):
    monkeypatch.setattr(launching, "_run", lambda *_: 1 / 0)
    rewards = {"short": tiny_tasks.short, "long": tiny_tasks.lengthy}
    run_call(make_oracle(rewards=rewards), np.array([0.5, 0.5]), tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {
        *("policy", "training.jsonl", "measurement.json")
    }
