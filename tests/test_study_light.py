"""The study *light*: arms equally tuned, divisions of the images that do not overlap."""

import itertools

import pytest
from small_runs import ROOT

from segadv_jax import experiment
from segadv_jax.campaign import arms
from segadv_jax.data.stanford_background import read_splits
from segadv_jax.report import study_choices, study_definition, study_runs

STUDY = study_definition.load("light")
PLACE = study_runs.Place("W", ())
FOLDS = [name for name, block in STUDY.blocks.items() if block.fold]


def test_every_arm_is_tuned_with_as_many_points():
    grids = {key: arm.grid for key, arm in STUDY.tuned()}
    assert len(grids) == 24
    for key, grid in grids.items():
        assert len(grid) == 4, key
        # And no two of them are the same.
        assert all(a != b for a, b in itertools.combinations(grid.values(), 2)), key


def test_every_point_is_a_configuration():
    study_runs.check_configs(STUDY, (key for key, _ in STUDY.tuned()), PLACE)


def config_of(key):
    """With the first point of the arm's own grid."""
    point = next(iter(STUDY.blocks[key[0]].arms[key[1]].grid.values()))
    return arms.load_config(study_runs.arguments(STUDY, key, point, PLACE))


@pytest.mark.parametrize("key", [key for key, _ in STUDY.tuned()], ids="/".join)
def test_an_arm_can_be_built_and_plays_the_game_or_not(key):
    config = config_of(key)
    experiment.check_numbers(config)
    setup = experiment.build(config, 8).setup
    standard = ("standard", "entropy", "entropy_unlabelled", "self_training")
    standard += ("label_smoothing", "boundary")
    assert (setup.adversary is None) == (key[1] in standard)
    # Arms with unlabelled images learn from them, the others have none.
    uses = config.loss.lam_unlabelled or config.loss.pseudo_labels
    unlabelled = key[1].endswith("_unlabelled") or key[1] == "self_training"
    assert config.data.unlabelled == ("rest" if unlabelled else "")
    assert bool(uses) == (unlabelled and not key[1].startswith("entropy"))
    # Pairs see the same images in the same order.
    reference = config_of((key[0], "standard"))
    for field in ("batch_size", "updates", "crop", "flip", "feature_cache"):
        assert config.train[field] == reference.train[field]
    assert config.data.fraction == reference.data.fraction
    assert config.evaluate == reference.evaluate


def images_of(splits):
    known = read_splits()
    names = splits.split("+")
    assert len(set(names)) == len(names)
    return {image for name in names for image in known[name]}


@pytest.mark.parametrize("name", ["natural", *FOLDS])
def test_the_parts_of_a_division_do_not_overlap(name):
    data = config_of((name, "standard")).data
    parts = [images_of(data[split]) for split in ("train", "validation", "test")]
    assert len(set.union(*parts)) == sum(map(len, parts)) == 715
    for part, size in zip(parts, (502, 71, 142), strict=True):
        assert abs(len(part) - size) <= 3
    # What chose the settings is tested nowhere.
    assert not images_of("subset_7") & parts[2]


def test_no_image_is_tested_in_two_divisions():
    tests = {"": images_of(config_of(("natural", "standard")).data.test)}
    for name in FOLDS:  # Those of one fold are of one division.
        images = images_of(config_of((name, "standard")).data.test)
        assert tests.setdefault(STUDY.blocks[name].fold, images) == images
    assert len(tests) == 4 and len(set.union(*tests.values())) == sum(map(len, tests.values()))


def test_folds_are_trained_with_the_settings_of_their_block():
    """In nothing but the images does an arm of a fold differ from that of the block."""
    seen = set()
    for name in FOLDS:
        for arm, definition in STUDY.blocks[name].arms.items():
            block, source = STUDY.source((name, arm))
            assert (source, definition) == (arm, STUDY.blocks[block].arms[arm])
            fields = dict(STUDY.blocks[name].fields)
            for split in ("data.train", "data.validation", "data.test"):
                del fields[split]
            assert fields == dict(STUDY.blocks[block].fields)
            seen.add((STUDY.blocks[name].fold, block))
    assert seen == set(itertools.product((1, 2, 3), ("natural", "balanced", "few")))


def test_the_claims_of_section_4_differ_from_their_arm_in_what_they_are_called():
    block = STUDY.blocks["section_4"]
    for name, arm in block.arms.items():
        source = STUDY.source(("section_4", name))
        ours, theirs = (
            set(study_runs.arguments(STUDY, key, {}, PLACE))
            for key in (("section_4", name), source)
        )
        assert (ours == theirs) == (not arm.like) and theirs <= ours
        config = arms.load_config(study_runs.arguments(STUDY, ("section_4", name), {}, PLACE))
        experiment.build(config, 8)


def test_the_committed_choices_are_the_best_points_of_these_grids():
    choices = study_choices.read(study_choices.path_of(ROOT / "docs/results", "light"), STUDY)
    assert ("natural", "standard") in choices
    for key, choice in choices.items():
        points = choice["points"]
        scores = {name: point["mean_iou"] + point["mean_bf"] for name, point in points.items()}
        assert choice["chosen"] == max(scores, key=scores.get)
        after = STUDY.blocks[key[0]].arms[key[1]].after
        inherited = study_choices.merged(choices, [(key[0], other) for other in after])
        assert choice["fields"] == {**inherited, **points[choice["chosen"]]["fields"]}
