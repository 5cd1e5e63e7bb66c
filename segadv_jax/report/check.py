"""An experiment tried before it is trained: what it is made of, what it costs, what looks wrong."""

from collections.abc import Callable

from ml_collections import ConfigDict
from numpy import ndarray

from segadv_jax import configuration, preparation, progress
from segadv_jax.campaign import text
from segadv_jax.data import Split, statistics
from segadv_jax.data.statistics import Statistics
from segadv_jax.preparation import Assembled
from segadv_jax.report import costs, doubts
from segadv_jax.train_state import TrainState
from segadv_jax.workdir import Workdir


def check(config: ConfigDict, workdir: Workdir | None, say: Callable[[str], None]) -> list[str]:
    """Reads all, makes a few steps of each turn and of evaluation; writes nothing to the workdir.

    Args:
        config: of the experiment.
        workdir: in which it is to be trained, or None.
        say: called with each of the paragraphs that tell what was found.

    Returns:
        What looks wrong, a sentence each.

    Raises:
        InputError: what training would raise.
        FloatingPointError: a step is not sound.
    """
    preparation.check(config, workdir)
    resumed = workdir is not None and workdir.has_checkpoints()
    config = config.copy_and_resolve_references()
    found = preparation.assemble(config)
    changed = configuration.compare(workdir, config) if workdir is not None else []
    config.train.feature_cache = ""  # It would be made.
    gathered = gather(config, found)
    say(_describe_data(config, found, gathered))
    # What a resumed run has learned costs what any other weights do.
    state = found.begin("scratch" if resumed else config.init)
    say(_describe_networks(config, workdir if resumed else None, state))
    images = {role: len(each.ids) for role, each in gathered.items()}
    say(costs.describe(config, found, state, {"test": images["validation"]} | images))
    names = found.data_set.class_names
    warnings = [*doubts.of_data(names, gathered), *doubts.of_config(config, found)]
    if changed:
        warnings.append(f"differs from {workdir} in {', '.join(changed)}")
    return warnings


def gather(config: ConfigDict, found: Assembled) -> dict[str, Statistics]:
    """Of the images to train on, to validate and to test; two that are one split are named once."""
    splits: dict[str, Split] = {"training": found.images.training}
    splits["validation"] = found.images.validation
    if config.data.test not in (config.data.train, config.data.validation):
        splits["test"] = found.data_set.read(config.data.test)
    result = {}
    for role, split in splits.items():
        with progress.bar(f"reading the {role} images", len(split.ids)) as bar:
            result[role] = statistics.gather(split, bar.update)
    return result


def _describe_data(config: ConfigDict, found: Assembled, gathered: dict[str, Statistics]) -> str:
    names = found.data_set.class_names
    rows = [["", *gathered]]
    rows.append(["images", *(str(len(each.ids)) for each in gathered.values())])
    rows.append(["smallest", *(_size(each.sizes.min(0)) for each in gathered.values())])
    rows.append(["largest", *(_size(each.sizes.max(0)) for each in gathered.values())])
    rows.append(["void, % of pixels", *(f"{100 * x.void:.2f}" for x in gathered.values())])
    shares = [each.shares(len(names)) for each in gathered.values()]
    for name, *of_class in zip(names, *shares, strict=True):
        cells = ["-" if share == 0 else f"{100 * share:.2f}" for share in of_class]
        rows.append([f"{name}, % of labelled pixels", *cells])
    said = f"Data: {found.data_set.name}, {len(names)} classes"
    if found.images.unlabelled is not None:
        said += f", and {len(found.images.unlabelled.ids)} images without labels"
    if "test" not in gathered:
        said += f"; the test images are those of {config.data.test}"
    return f"{said}\n{text.table(rows)}"


def _describe_networks(config: ConfigDict, workdir: Workdir | None, state: TrainState) -> str:
    lines = ["Networks:", *preparation.describe_networks(config, state)]
    weights = f"config.init, {config.init}"
    if workdir is not None:
        progress_of = workdir.progress()
        done = f" at update {progress_of[0]}" if progress_of else ""
        weights = f"those of the run in {workdir}{done}, which would go on"
    return "\n".join([*lines, f"weights: {weights}"])


def _size(size: ndarray) -> str:
    return f"{size[0]}x{size[1]}"
