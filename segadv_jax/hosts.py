"""Several processes as one: how they find each other, and what each of them says.

jax.distributed.initialize() asks the TPU's metadata, Slurm or Open MPI who the others are. It is
called only where there are others: a process of its own needs no service and no port.
"""

import glob
import importlib.util
import logging as python_logging
import os
import sys
import threading
import traceback
from collections.abc import Mapping
from typing import NoReturn

import jax
from absl import logging
from jax.experimental import multihost_utils

from segadv_jax import last_words
from segadv_jax.errors import InputError
from segadv_jax.signals import deadly

YES, NO, AUTO = "yes", "no", "auto"
TIMEOUT = 900  # Seconds until all processes must have been started.
# Seconds after which a process counts as lost that is not heard of, and which one that has come to
# its end waits for the others.
HEARTBEAT = 100
PARTING = 10  # Seconds that one waits for the others which has an error to report.
_BY_HAND = "--multihost=ADDRESS:PORT,PROCESSES,INDEX"


def join(wanted: str = AUTO, task: str = "") -> None:
    """Makes this process one of several; to be called before JAX is asked for its devices.

    Args:
        task: what is to be done, in any words: it must be the same in all processes.
        wanted: AUTO joins where the environment says that there are others; YES insists; NO does
            not look; "ADDRESS:PORT,PROCESSES,INDEX" says it by hand: where the first process
            listens, how many there are, and which of them this is.

    Raises:
        InputError: the others cannot be found or do something else, or `wanted` is nothing of that.
    """
    if wanted == NO or (wanted == AUTO and not are_several(os.environ)):
        return
    given = {} if wanted in (AUTO, YES) else _by_hand(wanted)
    if not given and _under_slurm(os.environ):
        given["local_device_ids"] = slurm_gpus(os.environ)
    try:
        with deadly():
            jax.distributed.initialize(
                **given,
                initialization_timeout=TIMEOUT,
                heartbeat_timeout_seconds=HEARTBEAT,
                shutdown_timeout_seconds=HEARTBEAT,
            )
    except (ValueError, RuntimeError, OSError) as error:
        if wanted == AUTO and _announced(os.environ) is None:
            # A TPU of one host, as a notebook's, may lie where nobody answers.
            logging.warning("no other hosts were found (%s); --multihost insists", error)
            return
        why = str(error).rstrip(".")
        raise InputError(
            f"--multihost: the other processes cannot be found ({why}); say it by hand, "
            f"{_BY_HAND}, or --multihost=no to train on this host alone"
        ) from error
    if jax.process_count() > 1:
        last_words.listen(jax.process_index())
    # The first collective of all. In it, the processes connect, and on CPUs each waits for another
    # no longer than 30 s: before the first step, one may still compile when the other is done.
    # Here all of them are at the same place; what comes later waits for as long as it takes.
    try:
        multihost_utils.sync_global_devices(task)
    except AssertionError as error:
        raise InputError(
            "the processes were started with different configurations or workdirs: start them with "
            "the same, or each alone with --multihost=no"
        ) from error
    if jax.process_count() > 1:
        _speak_as(jax.process_index())


def part(status: int) -> NoReturn:
    """Ends this process of several with `status` after an error that all of them may have.

    It waits a moment for the others and no longer: they may wait for this one.
    """
    shutdown = threading.Thread(target=jax.distributed.shutdown, daemon=True)
    shutdown.start()
    shutdown.join(PARTING)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def leave(error: BaseException) -> NoReturn:
    """Ends this process of several at once after an error that is nobody's to mend.

    It does not wait for the others, as Python's end would: they may wait for this one, and hear
    sooner that it is gone.
    """
    reason = last_words.lost(error)
    if reason is not None:
        last_words.say_lost(reason)
    print(f"process {jax.process_index()}:", file=sys.stderr)
    traceback.print_exception(error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def are_several(environment: Mapping[str, str]) -> bool:
    """Whether the environment variables, or a TPU, say that there may be other processes."""
    announced = _announced(environment)
    return _has_tpu() if announced is None else announced  # A TPU's metadata server knows.


def _announced(environment: Mapping[str, str]) -> bool | None:
    """Whether the environment variables say that there are others; None if they say nothing."""
    if _under_slurm(environment) or int(environment.get("OMPI_COMM_WORLD_SIZE", 1)) > 1:
        return True
    # Kubernetes, or a notebook's TPU.
    workers = environment.get("TPU_PROCESS_ADDRESSES", environment.get("TPU_WORKER_HOSTNAMES"))
    return None if workers is None else "," in workers


def _under_slurm(environment: Mapping[str, str]) -> bool:
    """Whether this is one of several tasks that `srun` started."""
    # Not SLURM_NTASKS, the job's: the script of a job is one process and starts others.
    tasks = environment.get("SLURM_STEP_NUM_TASKS", 1)
    return "SLURM_STEP_NODELIST" in environment and int(tasks) > 1


def slurm_gpus(environment: Mapping[str, str]) -> list[int] | None:
    """The GPUs of a task; None leaves it to JAX: that of the task's number on its host.

    A task that has its host to itself has all of it, and one to which Slurm shows a single GPU has
    that, whatever its number.
    """
    if "JAX_LOCAL_DEVICE_IDS" in environment:
        return None
    shown = environment.get("CUDA_VISIBLE_DEVICES")
    count = len(shown.split(",")) if shown else int(environment.get("SLURM_GPUS_ON_NODE", 0))
    alone = environment["SLURM_STEP_NUM_TASKS"] == environment.get("SLURM_STEP_NUM_NODES")
    return list(range(count)) if count == 1 or (count and alone) else None


def _has_tpu() -> bool:
    """Whether this machine has a TPU and the library for it; JAX must not be asked yet."""
    chips = glob.glob("/dev/accel[0-9]*") or glob.glob("/dev/vfio/[0-9]*")
    return bool(chips) and importlib.util.find_spec("libtpu") is not None


def _by_hand(text):
    address, *numbers = text.split(",")
    count, index = numbers if len(numbers) == 2 and all(map(str.isdecimal, numbers)) else ("0", "0")
    port = address.rpartition(":")[2]
    known = port.isdecimal() and 0 < int(port) < 2**16
    if not (":" in address and known and int(index) < int(count)):
        raise InputError(
            f"--multihost={text}: it is {YES}, {NO} or, by hand, ADDRESS:PORT,PROCESSES,INDEX, as "
            "10.0.0.1:8476,2,0 on the first of two"
        )
    return {
        "coordinator_address": address,
        "num_processes": int(count),
        "process_id": int(index),
        "cluster_detection_method": "deactivate",
    }


def _speak_as(index: int) -> None:
    """What all processes would say the first says; warnings and errors name their process."""
    if index == 0:
        return
    sys.stdout = open(os.devnull, "w")  # Until the process ends.
    logging.set_verbosity(logging.WARNING)
    root = python_logging.getLogger()
    root.setLevel(python_logging.WARNING)
    form = python_logging.Formatter(f"%(asctime)s process {index}: %(message)s", "%H:%M:%S")
    for handler in root.handlers:
        handler.setFormatter(form)


def describe(dtypes: Mapping[str, str]) -> str:
    """The processes, devices and precision in a line; `dtypes` are {network: dtype}.

    The precision of matrix products is that of float32 operands: by default a TPU multiplies their
    bfloat16 parts, and an H100 or A100 their TF32 parts.
    """
    devices = jax.devices()
    kinds = [device.device_kind for device in devices]
    said = ", ".join(f"{kinds.count(kind)} x {kind}" for kind in dict.fromkeys(kinds))
    if jax.process_count() > 1:
        each = jax.local_device_count()
        said = (
            f"process {jax.process_index()} of {jax.process_count()}, {each} devices in it, in all "
            f"{said}"
        )
    precision = [f"{network} {dtype}" for network, dtype in dtypes.items()]
    products = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    precision.append(f"matrix products {products or 'default'}")
    return f"devices: {said}; precision: {', '.join(precision)}"
