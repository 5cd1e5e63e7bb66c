"""Configurations: loaded by name or path, recorded in a run's folder, compared with it later."""

import dataclasses
import importlib.util
import re
from collections.abc import Mapping, Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

from absl import flags
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict, config_flags

from segadv_jax.configs import common
from segadv_jax.errors import InputError
from segadv_jax.models import ADVERSARIES, SEGMENTERS
from segadv_jax.workdir import Workdir

_SHOWN = 8  # Classes that a message names.
# Of the files in configs/, those that are no experiments.
_PARTS = ("common", "hyperparameters")

# Without these fields a checkpoint has no meaning: which parameters it has, whose turn its step is.
IDENTITY = (
    "data.name",
    "segmenter",
    "adversary",
    "encoding",
    "alternation",
    "train.ema",
    "optimizer.segmenter.name",
    "optimizer.adversary.name",
    "optimizer.segmenter.momentum",
    "optimizer.adversary.momentum",
)
# Of these, how it is computed: a run may go on otherwise.
ARITHMETIC = ("segmenter.dtype", "segmenter.remat", "adversary.dtype")
# What an evaluation may set otherwise than the run that it evaluates: what is measured and how, and
# where the data lies. All else says what was trained, and on what.
OF_EVALUATION = (
    "evaluate",
    "data.archives",
    "data.data_dir",
    "data.allow_partial",
    "segmenter.dtype",
    "compilation_cache",
)


def load(name: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """The configuration that a command line names.

    Args:
        name: a file, "configs/stanford.py", or one of those that come with the package, "stanford";
            either may be followed by a variant, "stanford:adversarial".
        overrides: fields to set, "--config.FIELD=VALUE" each.

    Raises:
        InputError: there is no such configuration, it cannot be read, or a field or a value is
            wrong.
    """
    path, *variant = name.split(":", 1)
    ours = {file.stem: file for file in sorted((Path(__file__).parent / "configs").glob("*.py"))}
    ours = {stem: file for stem, file in ours.items() if stem not in _PARTS}
    file = ours.get(path, Path(path))
    if not file.is_file():
        raise InputError(
            f"--config={name}: there is no file {path}; give the path of one, or the name of one "
            f"that comes with the package: {', '.join(ours)}"
        )
    try:
        loader = SourceFileLoader("configuration", str(file))  # A file need not end in .py.
        spec = importlib.util.spec_from_loader("configuration", loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
        config = module.get_config(*variant)
    except (Exception, SystemExit) as error:  # It is the user's program, and may raise anything.
        raise InputError(f"--config={name}: {_line(error)}") from error
    missing = sorted(_names(common.get_config()) - _names(config))
    if missing:
        raise InputError(
            f"--config={name}: its get_config() returns no configuration with the field "
            f"{missing[0]}: begin with segadv_jax.configs.common.get_config()"
        )
    for override in overrides:  # One by one, to know which of them is wrong.
        set_field(config, override)
    return config


def _names(config: Any) -> set[str]:
    """The fields of a configuration, but for the networks', which are their own."""
    if not isinstance(config, ConfigDict):
        return set()
    flat = flatten_dict(config.to_dict(), sep=".")
    return {name for name in flat if not name.startswith(("segmenter.", "adversary."))}


def set_field(config: ConfigDict, override: str) -> None:
    """Sets the field that "--config.FIELD=VALUE" names, in place."""
    argv, values = ["", override], flags.FlagValues()
    field = override.partition("=")[0].removeprefix("--").removeprefix("no")
    if "[" in field:
        raise InputError(
            f"--{field}: an item is not set by itself; give all that the field holds, as in "
            "'--config.train.scale=(0.5, 2)'"
        )
    group, within = _value(config, field), _value(config, field.rpartition(".")[0])
    if within is not None and not isinstance(within, ConfigDict):
        raise InputError(f"--{field}: the configuration has no such field")
    if isinstance(group, ConfigDict) and group is not config:
        own = [name for name in group if not isinstance(group[name], ConfigDict)]
        one = "name" if "name" in own else next(iter(own), "NAME")
        raise InputError(f"--{field} is a group of fields: set one of them, as --{field}.{one}=")
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
        rest = values(argv)[1:]
    except (AttributeError, KeyError) as error:
        raise InputError(f"--{field}: the configuration has no such field{_hint(error)}") from error
    except (flags.Error, TypeError, ValueError) as error:
        # The flag's own error holds the reason as Python would print it.
        reason = error.__context__ or error
        without = isinstance(reason, StopIteration)
        what = f"give it a value, as in {override}=8" if without else _line(reason)
        if isinstance(reason, ValueError) and (kind := _kind(config, field)):
            what = f"the field takes {kind}"
        raise InputError(f"{override}: {what}") from error
    if rest:
        raise InputError(f"{rest[0]}: a field is set as in --config.train.batch_size=8")


def _kind(config: ConfigDict, field: str) -> str:
    """What kind of number "config.FIELD" takes; "" if it is none."""
    value = _value(config, field)
    kinds = {bool: "True or False", int: "a whole number, as 8", float: "a number, as 0.5"}
    return kinds.get(type(value), "")


def _value(config: ConfigDict, field: str) -> Any:
    """What "config.FIELD" holds; None if there is no such field."""
    value: Any = config
    for name in field.split(".")[1:]:  # The first is "config".
        value = value.get(name) if isinstance(value, ConfigDict) else None
    return value


def _hint(error: Exception) -> str:
    similar = re.search(r'Did you mean "(\w+)"', str(error))
    return f"; did you mean {similar[1]}?" if similar else ""


def _line(error: BaseException) -> str:
    return " ".join(" ".join(map(str, error.args)).split()) or type(error).__name__


def complete(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """A recorded configuration with the fields that it did not have yet.

    They have their defaults, those of `configs/common.py` and of the networks' own fields: what
    they do by default is what was done before they existed.
    """
    known = flatten_dict(common.get_config().to_dict(), sep=".")
    flat = flatten_dict(dict(recorded), sep=".")
    for player, networks in (("segmenter", SEGMENTERS), ("adversary", ADVERSARIES)):
        known = {k: v for k, v in known.items() if not k.startswith(f"{player}.")}
        make = networks.get(flat.get(f"{player}.name"))
        for field in fields_of(make) if make else ():
            if field.default is not dataclasses.MISSING:
                known[f"{player}.{field.name}"] = field.default
    return unflatten_dict(known | flat, sep=".")


def fields_of(make: Any) -> tuple[dataclasses.Field, ...]:
    """What a configuration can set of the module that `make`, of SEGMENTERS or ADVERSARIES, makes.

    An adversary's stride is that of its segmenter.
    """
    own = dataclasses.fields(getattr(make, "func", make))
    return tuple(field for field in own if field.name not in ("parent", "name", "stride"))


def recorded(workdir: Workdir) -> ConfigDict:
    """The configuration of the run in `workdir`, completed."""
    found = workdir.recorded_config()
    if found is None:
        raise InputError(f"--workdir={workdir}: no {workdir.config_path.name} is there; name a run")
    return completed(found)


def completed(recorded: Mapping[str, Any]) -> ConfigDict:
    """A recorded configuration, completed, as those are that `load` returns."""
    flat = flatten_dict(complete(recorded), sep=".")
    # Modules take tuples, JSON has lists only.
    frozen = {name: tuple(x) if isinstance(x, list) else x for name, x in flat.items()}
    return ConfigDict(unflatten_dict(frozen, sep="."))


def of_evaluation(workdir: Workdir, overrides: Sequence[str] = ()) -> ConfigDict:
    """The configuration of the run in `workdir` with some fields set, as an evaluation may.

    Args:
        workdir: of the run.
        overrides: "--config.FIELD=VALUE" each, of `OF_EVALUATION`.

    Raises:
        InputError: no run is there, or a field is not one that an evaluation may set.
    """
    config = recorded(workdir)
    for override in overrides:
        name = override.partition("=")[0].removeprefix("--").removeprefix("no")
        set_field(config, override)  # A field that does not exist has an error of its own.
        if not _is_within(name.removeprefix("config."), OF_EVALUATION):
            *most, last = [f"config.{field}" for field in OF_EVALUATION]
            raise InputError(
                f"{override}: {name} says how the run was trained, and is read from "
                f"{workdir.config_path}; an evaluation may set {', '.join(most)} and {last}: "
                "leave the others out"
            )
    return config


def _is_within(name: str, fields: Sequence[str]) -> bool:
    """Whether a field is one of `fields` or of those within them."""
    return any(f"{name}.".startswith(f"{field}.") for field in fields)


def record(workdir: Workdir, config: ConfigDict) -> list[str]:
    """Records the configuration of a run on the first start; checks later ones against it.

    Returns:
        The names of the fields, "train.updates", in which the run was started otherwise.

    Raises:
        InputError: the run in the folder differs in one of `IDENTITY`.
    """
    if workdir.recorded_config() is None:
        workdir.record_config(config.to_dict())
    return compare(workdir, config)


def compare(workdir: Workdir, config: ConfigDict) -> list[str]:
    """As `record`, but nothing is written."""
    before = workdir.recorded_config()
    if before is None:
        return []
    then, now = (plain(each) for each in (before, config.to_dict()))
    # A network's own fields that a configuration does not set have their defaults in both.
    changed = sorted(k for k in then.keys() | now.keys() if then.get(k) != now.get(k))
    for name in changed:
        if _is_within(name, IDENTITY) and name not in ARITHMETIC:
            raise InputError(
                f"--workdir={workdir} holds a run of another architecture, schedule or optimizer: "
                f"its config.{name} is {then.get(name)!r}, this one's {now.get(name)!r}; choose "
                f"another --workdir, or the configuration in {workdir.config_path}"
            )
    return changed


def check_classes(workdir: Workdir, names: Sequence[str]) -> None:
    """Raises an InputError if the run in `workdir` knows other classes, or in another order."""
    before = (workdir.classes() or (names,))[0]
    if tuple(before) != tuple(names):
        then, now = (", ".join([*x[:_SHOWN], *["..."][: len(x) > _SHOWN]]) for x in (before, names))
        if sorted(before) == sorted(names):
            raise InputError(
                f"--workdir={workdir} holds a run of the same classes in another order ({then}), "
                f"the data have {now}: restore their order, or choose another --workdir"
            )
        raise InputError(
            f"--workdir={workdir} holds a run of {len(before)} other classes ({then}), the data "
            f"have {len(names)} ({now}): choose another --workdir, or the data of that run"
        )


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration, completed, as {"a.b": value}, with lists for tuples, as JSON has it."""
    flat = flatten_dict(complete(config), sep=".")
    return {name: list(x) if isinstance(x, tuple) else x for name, x in flat.items()}
