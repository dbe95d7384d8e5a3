"""Machines that go away while they work, in a simulated cluster of several."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from executor_rules import call, events_of, kinds, work
from ray.cluster_utils import Cluster

import ray
from palm_core import Execution
from palm_core.run.executors.protocol import Ended, Event
from palm_core.run.executors.ray import RayWorkers


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """One that has the driver and nothing else."""
    # Ray takes 15 s by default to see that a machine is gone.
    soon = {"health_check_period_ms": 500, "health_check_failure_threshold": 4}
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": soon}
    made = Cluster(initialize_head=True, head_node_args=head)
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.mark.parametrize(
    "ends", [[False], pytest.param([False, True], marks=pytest.mark.scheduled)]
)
def test_their_calls_are_lost_and_succeed_elsewhere(
    cluster: Cluster, tmp_path: Path, capfd: pytest.CaptureFixture[str], ends: list[bool]
) -> None:
    executor = RayWorkers(work(tmp_path), Execution(executor="ray", address=cluster.address))
    for graceful in ends:
        # The cluster has no room at all before: the call waits for it.
        node = cluster.add_node(num_cpus=1)
        executor.submit(call(1, "none", "sleep"))
        told: list[Event] = []
        while not told:
            told += executor.events()
        assert kinds(told) == ["answered"]
        cluster.remove_node(node, allow_graceful=graceful)
        (last,) = executor.events()
        assert isinstance(last, Ended)
        assert last.failure is not None
        assert last.failure.kind == "lost"
        assert not last.failure.hopeless
        assert last.failure.message.endswith("its machine is gone")
        assert last.failure.detail
    cluster.add_node(num_cpus=1)
    assert kinds(events_of(executor, call(2, "none"), limit=120)) == ["answered", "ended"]
    executor.close()
    assert not ray.is_initialized()
    assert capfd.readouterr().out == ""
