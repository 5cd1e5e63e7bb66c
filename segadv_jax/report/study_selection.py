"""Which part of a study a command is limited to, by its --blocks, --arms and --seeds."""

from collections.abc import Iterable

from segadv_jax.campaign import arms as campaign_arms
from segadv_jax.errors import InputError
from segadv_jax.report.study_definition import Key, Study


def keys(study: Study, blocks: str = "", arms: str = "") -> list[Key]:
    """The arms of blocks that --blocks and --arms leave.

    Args:
        study: whose they are.
        blocks, arms: names with commas between them; all if empty.

    Raises:
        InputError: a name is unknown, or names a part of which nothing is left.
    """
    wanted_blocks, wanted_arms = (
        [name for name in text.split(",") if name] for text in (blocks, arms)
    )
    for flag, given, known in (
        ("--blocks", wanted_blocks, list(study.blocks)),
        ("--arms", wanted_arms, [arm for block in study.blocks.values() for arm in block.arms]),
    ):
        for name in given:
            if name not in known:
                known = list(dict.fromkeys(known))
                raise InputError(f"{flag}: there is no {name}; known: {', '.join(known)}")
    left = [
        (block, arm)
        for block in wanted_blocks or study.blocks
        for arm in study.blocks[block].arms
        if not wanted_arms or arm in wanted_arms
    ]
    for block in wanted_blocks:
        if block not in [key[0] for key in left]:
            raise InputError(f"--blocks: {block} has none of --arms={arms}; leave it out")
    for name in wanted_arms:
        if name not in [key[1] for key in left]:
            raise InputError(f"--arms: {name} is in none of --blocks={blocks}")
    return left


def seeds(study: Study, some: Iterable[Key], wanted: str = "", blocks: str = "") -> list[int]:
    """The seeds of these arms' blocks that --seeds leaves.

    Args:
        study: whose they are.
        some: arms of blocks.
        wanted: seeds with commas between them; all if empty.
        blocks: as given to `keys`; each of those named must have one of the seeds.

    Raises:
        InputError: no block has one of the seeds, or a block that was named has none of them.
    """
    titles = {block for block, _ in some}
    known = {seed for title in titles for seed in study.blocks[title].seeds}
    if not wanted:
        return sorted(known)
    parsed = campaign_arms.parse_seeds(wanted)
    for seed in parsed:
        if seed not in known:
            raise InputError(f"--seeds: no block has the seed {seed}; known: {sorted(known)}")
    for title in titles if blocks else ():
        if not {*parsed} & {*study.blocks[title].seeds}:
            raise InputError(f"--seeds={wanted}: {title} has none of them; leave it out")
    return parsed
