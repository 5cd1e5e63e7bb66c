"""What a study is: data, from which `tools/study.py` knows what to tune, to train and to compare.

A new study is a new file in `studies/`, with a `Study` called STUDY.
"""

import dataclasses
import importlib
import pkgutil
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from segadv_jax.errors import InputError
from segadv_jax.metrics.names import PAPER_MEASURES, SELECTING
from segadv_jax.report import studies

Fields = Mapping[str, Any]  # {"loss.lam": 0.1}: fields of a configuration.
Key = tuple[str, str]  # (name of a block, name of an arm).

# The folder of a workdir's tuning runs: no block's name.
TUNING = "tuning"
# End the name of an arm whose predictions were corrected at test time: shifted by the classes'
# prior, or made less or more certain by a temperature.
PRIOR, CALIBRATED = "_prior", "_calibrated"
# End those of an arm whose other checkpoints were measured: values of config.evaluate.checkpoint.
CHECKPOINTS = ("latest", *SELECTING)
# In a text field stands for the folder of all runs.
WORKDIR = "{workdir}"


@dataclasses.dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        grid: {name of a point: its fields}; all arms of a study have as many.
        after: arms of the same block whose chosen fields this one inherits; a later one's count.
            They come before it in the block.
        config: "NAME" or "NAME:VARIANT"; the study's if empty.
        fields: what differs from the configuration in all points.
        like: in a block that takes its choices elsewhere, the arm whose choice it takes; the one of
            its own name if empty. It then needs no grid.
    """

    grid: Mapping[str, Fields] = dataclasses.field(default_factory=dict)
    after: tuple[str, ...] = ()
    config: str = ""
    fields: Fields = dataclasses.field(default_factory=dict)
    like: str = ""


@dataclasses.dataclass(frozen=True)
class Block:
    """Arms under one condition.

    Attributes:
        about: a sentence for the page.
        arms: by name.
        seeds: with each of which every arm is trained.
        pairs: (arm, other) whose difference is of interest, each one of `compared`.
        fields: of all arms.
        tuning_seeds: with each of which every point is trained.
        choices: the block whose choices are taken; its own grids are tuned if empty.
        prior: arms that are also measured with shifted predictions.
        calibrated: arms that are also measured at a temperature.
        checkpoints: of `CHECKPOINTS`, which checkpoints of all arms are measured beside the
            selected one.
        splits: further splits on which the selected checkpoint of all arms is measured.
        shares: the block in whose folder its runs lie, so that what is an arm of both is trained
            once; its own if empty.
        fold: which division of the images it is.
        pools: {name: arms}, whose mean, seed by seed, is compared like an arm.
        histories: whether the validations of its runs are shown, as in the paper's Figure 4.
    """

    about: str
    arms: Mapping[str, Arm]
    seeds: tuple[int, ...]
    pairs: tuple[tuple[str, str], ...]
    fields: Fields = dataclasses.field(default_factory=dict)
    tuning_seeds: tuple[int, ...] = ()
    choices: str = ""
    prior: tuple[str, ...] = ()
    calibrated: tuple[str, ...] = ()
    checkpoints: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    shares: str = ""
    fold: int = 0
    pools: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    histories: bool = False

    @property
    def beside(self) -> tuple[str, ...]:
        """The checkpoints and splits that are measured beside the selected one and the test's."""
        return *self.checkpoints, *self.splits

    @property
    def corrected(self) -> dict[str, tuple[str, ...]]:
        """The arms that are measured with each correction, by what ends their names then."""
        return {PRIOR: self.prior, CALIBRATED: self.calibrated}

    @property
    def shown(self) -> dict[str, str]:
        """The arms of its tables, those that are trained and what else is measured of these.

        Each with the name of the trained one.
        """
        shown = {arm: arm for arm in self.arms}
        shown |= {arm + end: arm for end, arms in self.corrected.items() for arm in arms}
        return shown | {f"{arm}_{what}": arm for what in self.beside for arm in self.arms}

    @property
    def compared(self) -> list[str]:
        """What can be compared: the arms of its tables, and pools of them."""
        return [*self.shown, *self.pools]


@dataclasses.dataclass(frozen=True)
class Study:
    """What is trained and compared.

    Attributes:
        about: a paragraph for the page.
        config, fields: of all arms, as in `Arm`.
        blocks: by name.
        pictured: arms of the first block whose predictions, with its first seed, are drawn.
        primary: the measures by whose sum, on the validation images, points are chosen.
        tested: the measures whose p-values are corrected; the primary ones if empty.
        alphas: what is tried of the shift by the classes' prior.
        temperatures: what is tried of temperatures.
    """

    about: str
    config: str
    blocks: Mapping[str, Block]
    fields: Fields = dataclasses.field(default_factory=dict)
    pictured: tuple[str, ...] = ()
    primary: tuple[str, ...] = ("mean_iou", "mean_bf")
    tested: tuple[str, ...] = ()
    alphas: tuple[float, ...] = tuple(quarter / 4 for quarter in range(-4, 5))
    temperatures: tuple[float, ...] = tuple(tenth / 10 for tenth in range(5, 26))

    @property
    def family(self) -> tuple[str, ...]:
        """The measures whose p-values are corrected."""
        return self.tested or self.primary

    def tuned(self) -> Iterator[tuple[Key, Arm]]:
        """The arms that are tuned, those that others inherit from before them."""
        for name, block in self.blocks.items():
            if not block.choices:
                yield from (((name, arm), block.arms[arm]) for arm in block.arms)

    def fixed(self, key: Key) -> dict[str, Any]:
        """The fields of a block's arm that are not chosen."""
        block = self.blocks[key[0]]
        return {**self.fields, **block.fields, **block.arms[key[1]].fields}

    def choosable(self, key: Key) -> set[str]:
        """The fields that the choice of a tuned arm sets, those that it inherits among them."""
        block, arm = key[0], self.blocks[key[0]].arms[key[1]]
        own = {field for point in arm.grid.values() for field in point}
        return own.union(*(self.choosable((block, other)) for other in arm.after))

    def source(self, key: Key) -> Key:
        """Where the choices of a block's arm come from."""
        block, arm = key
        return self.blocks[block].choices or block, self.blocks[block].arms[arm].like or arm


def load(name: str) -> Study:
    """The study of that name, checked; raises an InputError if there is none, or it is faulty."""
    known = [found.name for found in pkgutil.iter_modules(studies.__path__)]
    module = f"{studies.__name__}.{name}"
    if name not in known and module not in sys.modules:
        raise InputError(f"{name} is no study; known: {', '.join(known)}")
    try:
        study = importlib.import_module(module).STUDY
    except Exception as error:  # Whatever is wrong in a file of the user's.
        what = f"{type(error).__name__}: {error}"
        raise InputError(f"segadv_jax/report/studies/{name}.py cannot be used: {what}") from error
    check(name, study)
    return study


def check(name: str, study: Study) -> None:
    """Raises an InputError that names the first thing that is wrong in a study's definition."""

    def require(good: bool, where: str, what: str) -> None:
        if not good:
            raise InputError(f"study {name}, {where}: {what}")

    sizes = {len(arm.grid) for _, arm in study.tuned()}
    require(len(sizes) == 1, "arms", "give every arm as many points as the others")
    for which, measures in (("primary", study.primary), ("tested", study.family)):
        known = bool(measures) and set(measures) <= {*PAPER_MEASURES, "mean_bf"}
        require(known, which, f"give one or more of {', '.join(PAPER_MEASURES)}, mean_bf")
    first = next(iter(study.blocks.values()))
    require(
        set(study.pictured) <= set(first.arms), "pictured", "it names no arm of the first block"
    )
    seeds = {seed for block in study.blocks.values() for seed in block.seeds}
    for title, block in study.blocks.items():
        where = f"block {title}"
        named = [title, *block.arms, *(p for arm in block.arms.values() for p in arm.grid)]
        require(all(re.fullmatch(r"\w[\w.+-]*", n) for n in named), where, "a name is no folder's")
        plain = not {"+", "-"} & set(title)
        require(plain, where, "plus and hyphen compare blocks on the front page; rename it")
        pairs = [name for name in block.compared if "-" in name]
        require(not pairs, where, f"the hyphen is for differences; rename {' and '.join(pairs)}")
        require(title != TUNING, where, "the tuning has a folder of that name; rename it")
        ends = (PRIOR, CALIBRATED, *(f"_{what}" for what in (*CHECKPOINTS, *block.splits)))
        ending = [arm for arm in block.arms if arm.endswith(ends)]
        require(not ending, where, f"no arm's name ends in {' or '.join(ends)}")
        known = set(block.checkpoints) <= set(CHECKPOINTS)
        require(known, where, f"checkpoints are of {', '.join(CHECKPOINTS)}")
        for end, arms in block.corrected.items():
            known = set(arms) <= set(block.arms)
            require(known, where, f"{end[1:]} names an arm that is not there")
        for pair in block.pairs:
            known = set(pair) <= set(block.compared) and pair[0] != pair[1]
            require(known, where, f"the pair {pair} names no two arms")
        for pool, members in block.pools.items():
            known = bool(members) and set(members) <= block.shown.keys()
            require(known, where, f"the pool {pool} has no arms, or names one that is not there")
            require(pool not in block.shown, where, f"the pool {pool} has the name of an arm")
        require(len(set(block.pairs)) == len(block.pairs), where, "a pair comes twice")
        if block.choices:
            source = study.blocks.get(block.choices)
            taken = {arm.like or name for name, arm in block.arms.items()}
            own = source is not None and not source.choices and taken <= set(source.arms)
            require(own, where, f"{block.choices} has no choices for all of its arms")
        else:
            require(bool(block.tuning_seeds), where, "it has no tuning seeds")
            require(
                not any(arm.like for arm in block.arms.values()), where, "it has choices of its own"
            )
            shared = seeds & set(block.tuning_seeds)
            require(not shared, where, f"its tuning seeds are seeds as well: {sorted(shared)}")
        same = block.shares == "" or (
            block.shares in study.blocks and study.blocks[block.shares].fields == block.fields
        )
        require(same, where, f"it cannot share the runs of {block.shares}: other fields")
        before: list[str] = []
        for arm in block.arms:
            after = set(block.arms[arm].after)
            require(after <= set(before), where, f"{arm} inherits from an arm that comes later")
            before.append(arm)
    for title, block in study.blocks.items():  # Each of which may take the choices of another.
        for arm, definition in block.arms.items():
            chosen = study.choosable(study.source((title, arm)))
            both = ", ".join(sorted(chosen & {*block.fields, *definition.fields}))
            require(not both, f"block {title}", f"{arm} sets {both}, and so does its choice")
