"""A call that was killed goes on, to the same result."""

from __future__ import annotations

import json
import os
import signal

import pytest
from test_training import AT_ONCE, EVEN, same, trained, weights_of

from palm_core import WorkError
from palm_trl.process import run_call
from palm_trl.trainers import last_whole, mark_whole
from palm_trl.training import train

STEPS = 5
KINDS = {"lora": {}, "full": {"algorithm": "rloo", "tuning": "full"}}


def curves(folder):
    """What was logged, without times."""
    lines = (folder / "training.jsonl").read_text(encoding="utf-8").splitlines()
    return [{n: v for n, v in json.loads(line).items() if n != "step_time"} for line in lines]


def killed(oracle, folder, at, monkeypatch=None):
    """Train in a child that is killed (-9) in the middle of step ``at``."""
    child = os.fork()
    if child == 0:
        from palm_trl import trainers

        step = trainers._Mixin.training_step

        def deadly(self, *given, **options):
            if self.state.global_step + 1 == at and self._step % 2 == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return step(self, *given, **options)

        trainers._Mixin.training_step = deadly
        try:
            train(oracle, EVEN, folder)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("kind", ["lora", pytest.param("full", marks=pytest.mark.scheduled)])
def test_a_killed_call_goes_on_to_the_same_result(kind, make_oracle, tmp_path):
    options = {"steps": STEPS, "checkpoint_every": 2, "trainer": AT_ONCE, **KINDS[kind]}
    trained(make_oracle(**options), tmp_path / "at once")
    parts = tmp_path / "parts"
    parts.mkdir()
    killed(make_oracle(**options), parts, 4)
    assert last_whole(parts / "checkpoints").name == "checkpoint-2"
    assert len(curves(parts)) == 3
    killed(make_oracle(**options), parts, 5)
    assert last_whole(parts / "checkpoints").name == "checkpoint-4"
    trained(make_oracle(**options), parts)

    assert same(weights_of(parts / "policy"), weights_of(tmp_path / "at once" / "policy"))
    assert curves(parts) == curves(tmp_path / "at once")
    assert [line["step"] for line in curves(parts)] == [1, 2, 3, 4, 5]
    assert not (parts / "checkpoints").exists()


def test_batches_of_several_steps_are_used_up_before_a_checkpoint(make_oracle, tmp_path):
    """Completions that serve two steps, twice: resumed between, some would be drawn anew."""
    trainer = {**AT_ONCE, "steps_per_generation": 4, "num_iterations": 2}
    options = {"steps": 8, "checkpoint_every": 3, "trainer": trainer}
    trained(make_oracle(**options), tmp_path / "at once")
    parts = tmp_path / "parts"
    parts.mkdir()
    killed(make_oracle(**options), parts, 7)
    assert last_whole(parts / "checkpoints").name == "checkpoint-4"
    trained(make_oracle(**options), parts)
    assert same(weights_of(parts / "policy"), weights_of(tmp_path / "at once" / "policy"))


def test_a_half_written_checkpoint_is_skipped_and_removed(make_oracle, tmp_path):
    options = {"steps": STEPS, "checkpoint_every": 2, "trainer": AT_ONCE}
    trained(make_oracle(**options), tmp_path / "at once")
    parts = tmp_path / "parts"
    parts.mkdir()
    killed(make_oracle(**options), parts, 5)
    checkpoints = parts / "checkpoints"
    assert last_whole(checkpoints).name == "checkpoint-4"
    # as if it had been killed just before the last file of it
    (checkpoints / "checkpoint-4" / "whole").unlink()
    (checkpoints / "checkpoint-4" / "optimizer.pt").write_bytes(b"half")
    (checkpoints / "checkpoint-6").mkdir()
    assert last_whole(checkpoints).name == "checkpoint-2"
    killed(make_oracle(**options), parts, 3)
    assert [one.name for one in checkpoints.glob("checkpoint-*")] == ["checkpoint-2"]
    trained(make_oracle(**options), parts)
    assert same(weights_of(parts / "policy"), weights_of(tmp_path / "at once" / "policy"))


def test_whole_checkpoints_are_found_by_their_number(tmp_path):
    assert last_whole(tmp_path / "none") is None
    for step in (2, 10, 9):
        (tmp_path / f"checkpoint-{step}").mkdir()
        mark_whole(tmp_path, step)
    (tmp_path / "checkpoint-11").mkdir()
    (tmp_path / "checkpoint-x").mkdir()
    (tmp_path / "completions").mkdir()
    assert last_whole(tmp_path).name == "checkpoint-10"
    assert (tmp_path / "checkpoint-11").exists()
    assert last_whole(tmp_path, clean=True).name == "checkpoint-10"
    left = sorted(one.name for one in tmp_path.iterdir())
    assert left == ["checkpoint-10", "checkpoint-2", "checkpoint-9", "completions"]


def test_a_process_that_is_killed_is_an_error_and_the_same_call_goes_on(
    make_oracle, tmp_path, monkeypatch, capfd
):
    """Through run_call, with a process of its own each time; killed by a reward, once."""
    options = {"steps": 4, "trainer": AT_ONCE, "checkpoint_every": 1}
    trained(make_oracle(**options), tmp_path / "at once")

    monkeypatch.setenv("PALM_TEST_DEADLY", str(tmp_path / "killed"))
    rewards = {"short": "tiny_tasks:short", "long": "tiny_tasks:deadly"}
    oracle = make_oracle(rewards=rewards, launcher="python", **options)
    folder = tmp_path / "call"
    with pytest.raises(WorkError, match=r"SIGKILL .*out of memory.*it said last: .*about to die"):
        run_call(oracle, EVEN, folder)
    assert (tmp_path / "killed").exists()
    assert not (folder / "policy").exists()
    assert not (folder / "error.json").exists()
    assert last_whole(folder / "checkpoints").name == "checkpoint-2"

    run_call(oracle, EVEN, folder)
    assert "going on from checkpoint-2" in capfd.readouterr().err
    assert same(weights_of(folder / "policy"), weights_of(tmp_path / "at once" / "policy"))
    assert curves(folder) == curves(tmp_path / "at once")
    measured = json.loads((folder / "measurement.json").read_text())
    assert measured["objectives"] == ["short", "long"]
    call = json.loads((folder / "call.json").read_text())
    assert call["weights"] == [0.5, 0.5]
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*")}
    run_call(make_oracle(model="/nowhere", launcher="python"), EVEN, folder)  # nothing to do
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*")} == before
