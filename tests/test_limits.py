"""Numbers that no part can work with are refused before anything is read or compiled."""

import dataclasses
import math

import jaxtyping
import ml_collections
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from configs import synthetic
from segadv_jax import cli, limits, preparation
from segadv_jax.configuration import fields_of
from segadv_jax.errors import InputError
from segadv_jax.models import ADVERSARIES, SEGMENTERS

NEVER = (-8, math.nan, math.inf, -math.inf, 1e39, None, "8")  # No field means anything by these.
NETWORKS = [("segmenter", name) for name in SEGMENTERS]
NETWORKS += [("adversary", name) for name in ADVERSARIES]


def own_fields(player, name):
    """{field: default} of what a configuration can set of a network."""
    make = (SEGMENTERS if player == "segmenter" else ADVERSARIES)[name]
    of_config = [each for each in fields_of(make) if each.default is not dataclasses.MISSING]
    return {each.name: each.default for each in of_config}


def is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


def numeric(values):
    """The names of the fields that are numbers or several of them."""
    flat = flatten_dict(values, sep=".")
    several = {name for name, x in flat.items() if isinstance(x, tuple | list)}
    return {name for name, value in flat.items() if is_number(value)} | several


def said_of(config, field, value):
    """What is said of the configuration with another value, or None if it can be trained."""
    other = ml_collections.ConfigDict(config.to_dict())
    with other.ignore_type():
        other.update_from_flattened_dict({field: value})
    try:
        preparation.check(other)
    except InputError as error:
        return error.message


def with_wrong_numbers(value):
    """Values for a field that now is `value`, none of which it can hold."""
    several = isinstance(value, tuple | list)
    first = (value[:1] or (0.5,)) if several else ()
    wrong = [*NEVER, 2.5] if isinstance(first[0] if several else value, int) else NEVER
    return [(*first, each) for each in wrong] + [(each,) for each in wrong] if several else wrong


def check_all(config, names):
    assert said_of(config, "seed", 1) is None
    flat = flatten_dict(config.to_dict(), sep=".")
    for field in sorted(names):
        last = field.rpartition(".")[2]
        for value in with_wrong_numbers(flat[field]):
            said = said_of(config, field, value)
            assert said and said.startswith("config.") and last in said, (field, value, said)
            assert "\n" not in said and "supported" not in said
        for value in (0, (), (0, 0)):  # It means something to some.
            said = said_of(config, field, value)
            assert said is None or last in said, (field, value, said)


@pytest.fixture
def unchecked(monkeypatch):
    """Types are not checked at run time, as where no tests run."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def test_every_number_of_a_configuration_is_checked(unchecked):
    config = synthetic.get_config("adversarial")
    names = numeric(config.to_dict())
    assert {"loss.lam", "train.scale", "optimizer.adversary.betas", "evaluate.scales"} < names
    check_all(config, names)


@pytest.mark.parametrize(("player", "name"), NETWORKS)
def test_every_number_of_a_network_is_checked(player, name, unchecked):
    config = synthetic.get_config("adversarial")
    fields = {"name": name} | own_fields(player, name)
    if name == "efficientnet_lite0":
        fields["freeze"] = "none"  # What is frozen needs weights.
    config[player] = ml_collections.ConfigDict(fields)
    check_all(config, {f"{player}.{field}" for field in numeric(fields)})


def test_it_is_said_in_a_line_before_anything_is_written(tmp_path):
    argv = ["--config=synthetic", f"--workdir={tmp_path / 'run'}", "--config.segmenter.hidden=-8"]
    for command in ("train", "check"):
        message = "^config.segmenter: hidden is -8: set it from 1 to 65536$"
        with pytest.raises(InputError, match=message):
            cli.run(f"segadv_jax.commands.{command}", command, argv)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("allowed", "inside", "outside", "said"),
    [
        (limits.NOT_NEGATIVE, (0, 0.5, np.float32(2), 3e38), (-1e-9, 4e38), "to 0 or more"),
        (limits.SHARE, (0, 0.999), (-0.1, 1, 1.0), "from 0 to below 1"),
        (limits.COUNT, (1, np.int64(7), 2**31 - 1), (0, 1.5, 2**31, True), "to 1 or more"),
        (limits.SIZE, (1, 65536), (0, 65537), "from 1 to 65536"),
        (limits.WIDTH, (1e-6, 16), (0, 16.1), "above 0 and up to 16"),
        (limits.Range(-2, 2), (-2, 2), (-2.1, 2.1), "from -2 to 2"),
    ],
)
def test_a_range_holds_its_ends_or_not(allowed, inside, outside, said):
    assert all(map(allowed.holds, inside)) and not any(map(allowed.holds, outside))
    with pytest.raises(ValueError, match=f"^width is {outside[0]}: set it {said}$"):
        limits.check("width", outside[0], allowed)


def test_what_is_no_such_number_is_told_so(unchecked):
    with pytest.raises(ValueError, match="^lam is inf: set it to a finite number$"):
        limits.check("lam", math.inf, limits.NOT_NEGATIVE)
    with pytest.raises(ValueError, match="^period is 2.5: set it to a whole number$"):
        limits.check("period", 2.5, limits.COUNT)
    with pytest.raises(ValueError, match=r"^widths is \(4, 0\): set 2 whole numbers, each 1 or m"):
        limits.check_each("widths", (4, 0), limits.COUNT, 2, 2)
    for values in ((4,), (4, 4, 4), 4, "44"):
        with pytest.raises(ValueError, match="set 2 whole numbers"):
            limits.check_each("widths", values, limits.COUNT, 2, 2)
    with pytest.raises(ValueError, match="set 1 to 3 numbers, each from 0 to below 1"):
        limits.check_each("betas", (), limits.SHARE, 1, 3)
