"""From the arguments of a command line to the runs of a campaign.

An arm is a name and a tuple of arguments of `segadv_jax train`: "--config=NAME", then
"--config.FIELD=VALUE" for the fields that differ from it.
"""

import math
import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from ml_collections import ConfigDict

from segadv_jax import configuration, files
from segadv_jax.campaign.runs import Run
from segadv_jax.errors import InputError

Arms = dict[str, tuple[str, ...]]
Number = TypeVar("Number", int, float)

# Files in the folder of a campaign, beside the folders of the arms.
RESULTS, SUMMARY = "results.csv", "summary.json"


def parse_arms(texts: Iterable[str], shared: Iterable[str] = ()) -> Arms:
    """The arms of a command line, in the order given: each "NAME=ARGUMENTS", as in a shell.

    `shared` are arguments that hold for all arms, unless an arm sets the same field. Raises an
    InputError if a name cannot be a folder's or comes twice, or an argument has not that form.
    """
    common, arms = _by_field(shared, "after --"), {}
    for text in texts:
        name, equals, arguments = text.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", name):
            form = "NAME=ARGUMENTS, the name of letters, digits, and _ . + -"
            raise InputError(f"--arm={text}: give {form}")
        if name in (RESULTS, SUMMARY):
            raise InputError(f"--arm={name}=...: a file of the campaign has that name; rename it")
        if name in arms:
            raise InputError(f"--arm={name}=...: there are two arms of that name; rename one")
        try:
            words = shlex.split(arguments)
        except ValueError as error:
            raise InputError(f"--arm={text}: {error}") from error
        fields = common | _by_field(words, f"of --arm={name}")
        if "config" not in fields:
            raise InputError(f"--arm={name}: give it a configuration, --config=NAME[:VARIANT]")
        arms[name] = (fields.pop("config"), *fields.values())
    return arms


def _by_field(arguments: Iterable[str], where: str) -> dict[str, str]:
    """{"config" or "config.FIELD": argument}."""
    fields = {}
    for argument in arguments:
        match = re.match(r"--(?:(config)=|(?:no)?(config\.[\w.]+)(?:=|$))", argument)
        if not match:
            only = "a run takes --config=NAME and --config.FIELD=VALUE only"
            hint = "its folder follows from --workdir, its seed from --seeds"
            raise InputError(f"{argument} {where}: {only}; {hint}")
        field = match[1] or match[2]
        if field == "config.seed":
            raise InputError(f"{argument} {where}: give the seeds of all arms in --seeds")
        fields[field] = argument
    return fields


def parse_seeds(text: str, flag: str = "--seeds") -> list[int]:
    """The seeds that `flag` gives, as "0,1,2"; errors as in `parse_numbers`."""
    return parse_numbers(text, flag, int, "0,1,2")


def parse_numbers(
    text: str, flag: str, kind: Callable[[str], Number], example: str
) -> list[Number]:
    """The numbers that `flag` gives; an InputError if one is below 0, not finite or comes twice."""
    try:
        numbers = [kind(number) for number in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(0 <= number < math.inf for number in numbers):
        raise InputError(f"{flag}={text}: give numbers from 0 on, as {flag}={example}")
    for number in numbers:
        if numbers.count(number) > 1:
            raise InputError(f"{flag}={text}: {short(number)} comes twice")
    return numbers


def short(number: float) -> str:
    """The shortest text that stands for this number and no other: 1e-06, 0.1, 1."""
    return repr(number).removesuffix(".0")


def load_config(arguments: Sequence[str]) -> ConfigDict:
    """The configuration of an arm; raises the InputErrors of `configuration.load`."""
    return configuration.load(arguments[0].removeprefix("--config="), arguments[1:])


def check_pairs(texts: Iterable[str], configs: Mapping[str, ConfigDict]) -> list[tuple[str, str]]:
    """The pairs of arms to compare, each given as "ARM,OTHER".

    Raises an InputError if an arm is not in `configs`, or if they are tested on different images.
    """
    pairs = []
    for text in texts:
        arm, _, other = text.partition(",")
        if not other or "," in other or arm == other:
            raise InputError(f"--compare={text}: name two arms, as --compare=adversarial,standard")
        for name in (arm, other):
            if name not in configs:
                hint = f"known: {', '.join(configs)}"
                raise InputError(f"--compare={text}: there is no arm {name}; {hint}")
        # Archives hold the same images wherever they lie; a folder of images is a data set.
        fields = ("archives",) if configs[arm].data.name == "image_folder" else ()
        for field in ("name", "test", "longest_side", *fields):
            ours, theirs = (configs[name].data[field] for name in (arm, other))
            if field == "archives":
                ours, theirs = map(os.path.realpath, (ours, theirs))
            if ours != theirs:
                what = f"config.data.{field} is {ours!r} in one and {theirs!r} in the other"
                raise InputError(f"--compare={text}: {what}, whose results cannot be compared")
        pairs.append((arm, other))
    return pairs


def plan(workdir: files.PathLike, arms: Arms, seeds: Iterable[int]) -> list[Run]:
    """The runs of all arms with all seeds, seed by seed, so that pairs are complete early."""
    return [
        Run(arm, seed, os.path.join(workdir, arm, f"seed_{seed}"), tuple(arguments))
        for seed in seeds
        for arm, arguments in arms.items()
    ]
