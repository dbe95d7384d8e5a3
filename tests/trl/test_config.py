from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palm_core import InputError
from palm_trl import GrpoOracle, GrpoSettings
from palm_trl.options import ALGORITHMS, OURS
from palm_trl.trainer_config import _ours, _save_steps, check_config, seed_of, trainer_config

WEIGHTS = np.array([0.25, 0.75])


def config_of(make_oracle, tmp_path, at=None, **options):
    return trainer_config(make_oracle(**options), WEIGHTS, tmp_path, start=at)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_palm_sets_and_what_the_task_says_reach_trl(algorithm, make_oracle, tmp_path):
    config = config_of(
        make_oracle,
        tmp_path,
        algorithm=algorithm,
        steps=7,
        new_tokens=9,
        temperature=0.7,
        beta=0.03,
        trainer={"learning_rate": 0.125, "max_grad_norm": 2.0},
    )
    assert (config.max_steps, config.max_completion_length) == (7, 9)
    assert (config.temperature, config.beta) == (0.7, 0.03)
    assert config.reward_weights == [0.25, 0.75]
    assert (config.learning_rate, config.max_grad_norm) == (0.125, 2.0)
    assert config.output_dir == str(tmp_path / "checkpoints")
    assert (config.save_steps, config.save_total_limit) == (1, 2)
    assert config.seed == config.data_seed == seed_of(0, WEIGHTS)
    assert config.report_to == []
    assert config.disable_tqdm
    assert not config.remove_unused_columns
    assert not config.bf16
    assert not config.gradient_checkpointing
    assert config.device.type == "cpu"


def test_what_palm_sets_cannot_be_asked_for_in_vain(make_oracle, tmp_path):
    assert {*_ours(make_oracle(), WEIGHTS, tmp_path, None), "use_cpu"} <= OURS.keys()


def test_fewer_steps_from_a_start(make_oracle, tmp_path):
    options = {"start": "nearest", "warm_steps": 3, "steps": 9}
    assert config_of(make_oracle, tmp_path, **options).max_steps == 9
    assert config_of(make_oracle, tmp_path, tmp_path, **options).max_steps == 3


def test_recomputed_activations_where_they_are_asked_for(make_oracle, tmp_path):
    trainer = {"gradient_checkpointing": True, "bf16": True}
    config = config_of(make_oracle, tmp_path, trainer=trainer)
    assert config.gradient_checkpointing
    assert config.bf16


def test_vllm_is_asked_for_by_its_options(make_oracle, tmp_path, monkeypatch):
    import trl.import_utils  # noqa: F401  to be found among the modules

    monkeypatch.setattr(sys.modules["trl.import_utils"], "is_vllm_available", lambda *_: True)
    for mode, more in {
        "colocate": {"vllm_gpu_memory_utilization": 0.4, "vllm_tensor_parallel_size": 2},
        "server": {"vllm_server_host": "10.0.0.7", "vllm_server_port": 8123},
    }.items():
        given = {"use_vllm": True, "vllm_mode": mode, **more}
        config = config_of(make_oracle, tmp_path, trainer=given)
        assert {name: getattr(config, name) for name in given} == given


def test_vllm_that_is_missing_is_one_line_before_a_model_is_loaded(make_oracle, tmp_path):
    from palm_trl.training import train

    oracle = make_oracle(model="/nowhere", trainer={"use_vllm": True})
    with pytest.raises(InputError, match=r"^trainer\.use_vllm = True: .*\[vllm\]"):
        train(oracle, WEIGHTS, tmp_path)
    check_config(oracle)  # a plan may be made where nothing is trained


@pytest.mark.parametrize(
    ("trainer", "told"),
    [
        ({"learning_rate": "1e-5"}, r"trainer\.learning_rate = '1e-5': Expected `float`"),
        ({"max_grad_norm": [1]}, r"trainer\.max_grad_norm = \[1\]: Expected `float`"),
        ({"optim": "adamm"}, r"trainer\.optim = 'adamm': .*adamw_torch"),
        ({"lr_scheduler_type": "flat"}, r"trainer\.lr_scheduler_type = 'flat': .*cosine"),
        ({"fp16": True, "bf16": True}, r"trainer\.(bf|fp)16 = True: .*[Aa]t most one"),
        ({"auto_find_batch_size": True}, r"trainer\.auto_find_batch_size = True: .*not supported"),
        ({"generation_batch_size": 12, "per_device_train_batch_size": 8},
         r"trainer\.generation_batch_size = 12: .*divisible by the global batch size"),
    ],
)  # fmt: skip
def test_a_value_that_trl_refuses_is_named(trainer, told, make_oracle, tmp_path):
    with pytest.raises(InputError, match=told) as error:
        config_of(make_oracle, tmp_path, trainer=trainer)
    assert "\n" not in str(error.value)


def test_asking_beforehand_refuses_the_same_and_leaves_nothing(make_oracle, tmp_path):
    import torch
    from accelerate.state import AcceleratorState, PartialState

    states = (PartialState._shared_state, AcceleratorState._shared_state)
    before = [dict(one) for one in states]
    check_config(make_oracle())
    with pytest.raises(InputError, match=r"trainer\.optim = 'adamm'"):
        check_config(make_oracle(trainer={"optim": "adamm"}))
    # What only the machine that trains can say is not asked here.
    check_config(make_oracle(trainer={"tf32": True, "bf16": True}))
    assert [dict(one) for one in states] == before
    assert not torch.cuda.is_initialized()
    for one in states:
        one.clear()
    check_config(make_oracle())
    assert not any(states)


def test_asking_beforehand_counts_all_processes(make_oracle):
    two = {"processes": 2, "launcher": "torchrun"}
    trainer = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 1}
    check_config(make_oracle(trainer=trainer, **two))
    check_config(make_oracle(trainer={**trainer, "generation_batch_size": 8}, **two))
    with pytest.raises(InputError, match=r"trainer\.generation_batch_size = 4: .*divisible"):
        check_config(make_oracle(trainer={**trainer, "per_device_train_batch_size": 4,
                                          "generation_batch_size": 4}, **two))  # fmt: skip


def test_a_calls_process_does_not_ask_again(make_oracle, monkeypatch):
    refused = make_oracle().plain_options() | {"trainer": {"optim": "adamm"}}
    GrpoSettings(**refused)
    with pytest.raises(InputError, match=r"^trainer\.optim"):
        GrpoOracle(**refused)
    monkeypatch.setenv("RANK", "1")  # several processes, each of which makes the oracle
    GrpoOracle(**refused)


@given(
    every=st.integers(1, 30),
    accumulated=st.integers(1, 6),
    rounds=st.none() | st.integers(1, 6),
    iterations=st.integers(1, 4),
)
def test_checkpoints_fall_where_a_batch_is_used_up(every, accumulated, rounds, iterations):
    from types import SimpleNamespace

    options = {"gradient_accumulation_steps": accumulated, "num_iterations": iterations}
    oracle = SimpleNamespace(options=options, checkpoint_every=every, processes=1)
    if rounds is not None:
        options["steps_per_generation"] = rounds
    found = _save_steps(oracle)
    used = (rounds or accumulated) * iterations
    period = math.lcm(accumulated, used) // accumulated
    assert found * accumulated % used == 0
    assert every <= found < every + period
    if rounds is not None:
        del options["steps_per_generation"]
        options |= {"generation_batch_size": rounds * 4, "per_device_train_batch_size": 4}
        assert _save_steps(oracle) == found


@given(st.integers(0, 2**40), st.lists(st.floats(0, 1), min_size=2, max_size=4))
def test_seeds_fit_and_are_fixed(seed, weights):
    found = seed_of(seed, np.array(weights))
    assert 0 <= found < 2**31
    assert found == seed_of(seed, np.array(weights))


def test_the_seed_of_a_call_stays_what_it_was():
    assert seed_of(0, np.array([0.25, 0.75])) == 762395503
