"""From the arguments of a command line to the runs of a campaign.

An arm is a name and a tuple of arguments of `segadv_jax train`: "--config=NAME", then
"--config.FIELD=VALUE" for the fields that differ from it.
"""

import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence

from ml_collections import ConfigDict

from segadv_jax import configuration
from segadv_jax.campaign.runs import Run
from segadv_jax.errors import InputError

Arms = dict[str, tuple[str, ...]]

# Files in the folder of a campaign, beside the folders of the arms.
RESULTS, SUMMARY = "results.csv", "summary.json"


def parse_arms(texts: Iterable[str], shared: Iterable[str] = ()) -> Arms:
    """The arms of a command line.

    Args:
        texts: each "NAME=ARGUMENTS", the arguments as in a shell.
        shared: arguments that hold for all arms, unless an arm sets the same field.

    Returns:
        {name: tuple of arguments, --config first}, in the order given.

    Raises:
        InputError: a name cannot be a folder's or comes twice, or an argument is neither
            --config=NAME nor --config.FIELD=VALUE.
    """
    common, arms = _by_field(shared, "after --"), {}
    for text in texts:
        name, equals, arguments = text.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", name):
            raise InputError(
                f"--arm={text}: give NAME=ARGUMENTS, the name of letters, digits, and _ . + -"
            )
        if name in (RESULTS, SUMMARY):
            raise InputError(
                f"--arm={name}=...: a file of the campaign has that name; choose another"
            )
        if name in arms:
            raise InputError(f"--arm={name}=...: there are two arms of that name; rename one")
        try:
            words = shlex.split(arguments)
        except ValueError as error:
            raise InputError(f"--arm={text}: {error}") from error
        fields = common | _by_field(words, f"of --arm={name}")
        if "config" not in fields:
            raise InputError(
                f"--arm={name}: give it a configuration, --config=NAME or NAME:VARIANT"
            )
        arms[name] = (fields.pop("config"), *fields.values())
    if not arms:
        raise InputError("--arm: give at least one, as --arm=NAME=ARGUMENTS")
    return arms


def _by_field(arguments: Iterable[str], where: str) -> dict[str, str]:
    """{"config" or "config.FIELD": argument}."""
    fields = {}
    for argument in arguments:
        match = re.match(r"--(?:(config)=|(?:no)?(config\.[\w.]+)(?:=|$))", argument)
        if not match:
            raise InputError(
                f"{argument} {where}: a run takes --config=NAME and --config.FIELD=VALUE only; "
                "its folder follows from --workdir, its seed from --seeds"
            )
        field = match[1] or match[2]
        if field == "config.seed":
            raise InputError(f"{argument} {where}: give the seeds of all arms in --seeds")
        fields[field] = argument
    return fields


def parse_seeds(text: str, flag: str = "--seeds") -> list[int]:
    """The seeds that `flag` gives, as "0,1,2".

    Raises:
        InputError: there are none, one of them is not a number or comes twice.
    """
    try:
        seeds = [int(seed) for seed in text.split(",")]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0:
        raise InputError(f"{flag}={text}: give numbers from 0 on, as {flag}=0,1,2")
    twice = [seed for seed in seeds if seeds.count(seed) > 1]
    if twice:
        raise InputError(f"{flag}={text}: {twice[0]} comes twice")
    return seeds


def load_config(arguments: Sequence[str]) -> ConfigDict:
    """The configuration of an arm; raises the InputErrors of `configuration.load`."""
    return configuration.load(arguments[0].removeprefix("--config="), arguments[1:])


def check_pairs(texts: Iterable[str], configs: Mapping[str, ConfigDict]) -> list[tuple[str, str]]:
    """The pairs of arms to compare.

    Args:
        texts: each "ARM,OTHER".
        configs: {arm: configuration}.

    Raises:
        InputError: an arm is not known, or the two are evaluated on different images.
    """
    pairs = []
    for text in texts:
        arm, _, other = text.partition(",")
        if not other or "," in other or arm == other:
            raise InputError(
                f"--compare={text}: name two arms, as in --compare=adversarial,standard"
            )
        for name in (arm, other):
            if name not in configs:
                known = ", ".join(configs)
                raise InputError(f"--compare={text}: there is no arm {name}; known: {known}")
        for field in ("name", "test"):
            ours, theirs = (configs[name].data[field] for name in (arm, other))
            if ours != theirs:
                raise InputError(
                    f"--compare={text}: config.data.{field} is {ours!r} in one and {theirs!r} in "
                    "the other, whose results cannot be compared"
                )
        pairs.append((arm, other))
    return pairs


def plan(workdir: str | os.PathLike[str], arms: Arms, seeds: Iterable[int]) -> list[Run]:
    """The runs of all arms with all seeds, seed by seed, so that pairs are complete early."""
    return [
        Run(arm, seed, os.path.join(workdir, arm, f"seed_{seed}"), tuple(arguments))
        for seed in seeds
        for arm, arguments in arms.items()
    ]
