"""Fixtures that several test files share."""

import atexit
import gc
import importlib.metadata
import os
import shutil
import tempfile

# To be set before anything imports JAX: four virtual devices, and an error where arrays of
# different rank would be broadcast silently. The tests compile much and compute little: without
# the optimizations they take half the time, and without XLA's newer emitters of fusions a training
# step compiles in a third. The older ones, which jaxlib 0.12 no longer has, may compute a value
# twice, which must round alike: with AVX2 they would fuse some multiplications with additions, and
# others not.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")
os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    # By default XLA cuts a program into 32 parts, for as many cores.
    " --xla_cpu_parallel_codegen_split_count=1"
)
if importlib.metadata.version("jaxlib").startswith("0.10."):
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false --xla_cpu_max_isa=AVX"

# What one test process has compiled, the others and the processes that tests start take from here.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="segadv_jax_compiled_")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

from pathlib import Path

# Before the package: what its modules import while their types are hooked, Python compiles anew.
import flax.linen  # noqa: F401
import jax
import optax  # noqa: F401
import orbax.checkpoint  # noqa: F401
import pytest
from jax.experimental.compilation_cache import compilation_cache

from segadv_jax import data

if "PYTEST_XDIST_WORKER" in os.environ:  # One that will need it, and not for a single file.
    import tensorflow_datasets  # noqa: F401

# Real archives lie beside a checkout, if at all; they are not part of the project.
ARCHIVES = Path(__file__).resolve().parents[2] / "shared" / "data"


# A file is one process's work: those that take longest begin first, or one process ends alone.
LONGEST = ("processes", "train", "colab", "train_dilated8", "campaign", "efficientnet_lite")
LONGEST += ("benchmark", "game", "convolution", "precision", "corrections", "frozen", "train_step")


def pytest_collection_modifyitems(items):
    """Puts the longest files first, as a stable sort."""
    last = len(LONGEST)
    rank = {f"test_{name}": number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, last))


def pytest_collection_finish():
    """Tracing makes so many objects that without this a fifth of the time goes into looking, over
    and over, which of a million that stay can go."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


@pytest.fixture(scope="session")
def stanford_archives():
    """The folder with the official Stanford Background archive; skips where there is none."""
    if not (ARCHIVES / "iccv09Data.tar.gz").is_file():
        pytest.skip(f"needs the official archive: {ARCHIVES / 'iccv09Data.tar.gz'} is not there")
    return ARCHIVES


@pytest.fixture(scope="session")
def voc_archive():
    """PASCAL VOC 2012's official archive, or a part of it; skips where there is none."""
    path = ARCHIVES / "VOCtrainval_11-May-2012.tar"
    if not path.is_file():
        pytest.skip(f"needs the official archive: {path} is not there")
    return path


@pytest.fixture(scope="session")
def stanford(stanford_archives, tmp_path_factory):
    """The complete Stanford Background data set, prepared once for all tests."""
    folder = tmp_path_factory.mktemp("stanford")
    return data.load("stanford_background", archives=str(stanford_archives), data_dir=str(folder))


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """The folder in which the synthetic data set is prepared, once for all tests."""
    folder = tmp_path_factory.mktemp("synthetic")
    data.load("synthetic", data_dir=str(folder))
    return folder


@pytest.fixture(scope="session")
def synthetic(data_dir):
    """The synthetic data set."""
    return data.load("synthetic", data_dir=str(data_dir))


@pytest.fixture
def compilation_settings():
    """Sets JAX's own back after a test that keeps what it compiles in a folder of its own.

    A limit of the folder's size must not stay: with one JAX wants to know of each program when it
    was used, which the processes that share the tests' folder without a limit do not write.
    """
    names = ("compilation_cache_dir", "compilation_cache_max_size")
    names += ("persistent_cache_min_compile_time_secs",)
    before = {f"jax_{name}": getattr(jax.config, f"jax_{name}") for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
