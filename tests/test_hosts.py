"""When a process looks for others, and what it says of them."""

import jax
import pytest

from segadv_jax import hosts
from segadv_jax.errors import InputError

TASKS = {"SLURM_STEP_NODELIST": "n[1-2]", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "2"}


@pytest.fixture
def calls(monkeypatch):
    """What JAX is asked to initialize with; it finds nobody."""
    made = []

    def initialize(**given):
        made.append(given)
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    monkeypatch.setattr(hosts, "_has_tpu", lambda: False)
    for name in TASKS:
        monkeypatch.delenv(name, raising=False)
    return made


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        (TASKS, True),
        (TASKS | {"SLURM_STEP_NUM_TASKS": "1"}, False),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2"}, False),  # The script of a job.
        ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, False),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, True),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, False),
        ({"TPU_PROCESS_ADDRESSES": "a:1,b:1", "TPU_WORKER_HOSTNAMES": "a"}, True),
    ],
)
def test_other_processes_are_looked_for_where_there_may_be_some(calls, environment, expected):
    assert hosts.are_several(environment) == expected


def test_a_tpu_may_be_one_host_of_several(calls, monkeypatch):
    monkeypatch.setattr(hosts, "_has_tpu", lambda: True)
    assert hosts.are_several({})
    assert not hosts.are_several({"TPU_WORKER_HOSTNAMES": "localhost"})
    hosts.join()  # Its metadata server does not answer: as alone as before.
    assert len(calls) == 1
    with pytest.raises(InputError, match="--multihost: the other processes cannot be found"):
        hosts.join(hosts.YES)


def test_alone_nothing_happens(calls):
    hosts.join()
    hosts.join(hosts.NO)
    assert not calls


def test_under_slurm_the_others_must_be_there(calls, monkeypatch):
    for name, value in TASKS.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="--multihost=no to train on this host alone"):
        hosts.join()
    hosts.join(hosts.NO)
    monkeypatch.setenv("SLURM_GPUS_ON_NODE", "2")
    with pytest.raises(InputError):
        hosts.join()
    assert [given["local_device_ids"] for given in calls] == [None, [0, 1]]


@pytest.mark.parametrize(
    "environment", [{"OMPI_COMM_WORLD_SIZE": "2"}, {"TPU_WORKER_HOSTNAMES": "a,b"}]
)
@pytest.mark.parametrize("has_tpu", [False, True])
def test_where_others_are_announced_they_must_be_there(calls, monkeypatch, environment, has_tpu):
    """Each alone, they would all train in one workdir."""
    monkeypatch.setattr(hosts, "_has_tpu", lambda: has_tpu)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="--multihost=no to train on this host alone"):
        hosts.join()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"SLURM_GPUS_ON_NODE": "4"}, [0, 1, 2, 3]),  # JAX would take the first alone.
        ({"CUDA_VISIBLE_DEVICES": "2,3"}, [0, 1]),
        ({"CUDA_VISIBLE_DEVICES": "2,3", "SLURM_STEP_NUM_TASKS": "4"}, None),  # One for each task.
        ({"CUDA_VISIBLE_DEVICES": "3", "SLURM_STEP_NUM_TASKS": "4"}, [0]),  # Slurm gave it one.
        ({"SLURM_GPUS_ON_NODE": "4", "JAX_LOCAL_DEVICE_IDS": "1"}, None),
        ({}, None),
    ],
)
def test_a_task_of_slurm_has_the_gpus_that_are_its_own(environment, expected):
    assert hosts.slurm_gpus(TASKS | environment) == expected


def test_what_is_said_by_hand_is_passed_on(calls):
    with pytest.raises(InputError, match="cannot be found"):
        hosts.join("10.0.0.1:8476,4,3")
    given = calls[0]
    assert (given["coordinator_address"], given["num_processes"], given["process_id"]) == (
        *("10.0.0.1:8476", 4, 3),
    )
    assert given["cluster_detection_method"] == "deactivate"
    # A lost process is missed, and one that has ended waits, for some two minutes at most.
    assert 30 <= given["heartbeat_timeout_seconds"] <= 120
    assert 30 <= given["shutdown_timeout_seconds"] <= 120


@pytest.mark.parametrize(
    "text", ["maybe", "host:1", "host:1,2", "host,2,0", "host:1,2,2", "h:1,2,x", "h:99999,2,0"]
)
def test_anything_else_is_refused(calls, text):
    with pytest.raises(InputError, match=f"--multihost={text}: it is yes, no or, by hand"):
        hosts.join(text)
    assert not calls


def test_devices_and_precision_are_described():
    said = hosts.describe({"segmenter": "bfloat16", "adversary": "float32"})
    assert said.startswith("devices: 4 x cpu; precision: segmenter bfloat16, adversary float32")
    assert said.endswith("matrix products default")
    with jax.default_matmul_precision("highest"):
        assert hosts.describe({}) == "devices: 4 x cpu; precision: matrix products highest"
