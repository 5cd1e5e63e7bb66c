"""The studies of the paper's own network and of its Table 2: every setting is one that can run."""

import pytest

from segadv_jax import experiment
from segadv_jax.campaign import arms
from segadv_jax.configs import hyperparameters
from segadv_jax.report import measured, study_definition, study_page, study_runs

STUDIES = {name: study_definition.load(name) for name in ("paper", "voc")}
KEYS = [(name, key) for name, study in STUDIES.items() for key, _ in study.tuned()]
PLACE = study_runs.Place("W", ())


def configs_of(name, key):
    study = STUDIES[name]
    for point in study.blocks[key[0]].arms[key[1]].grid.values():
        yield arms.load_config(study_runs.arguments(study, key, point, PLACE))


@pytest.mark.parametrize(("name", "key"), KEYS, ids=str)
def test_every_point_can_be_built_and_is_another(name, key):
    found = list(configs_of(name, key))
    assert len(found) > 1
    assert all(found[i] != found[j] for i in range(len(found)) for j in range(i))
    for config in found:
        experiment.check_numbers(config)
        standard = experiment.build(config, 8).setup.adversary is None
        assert standard == (key[1] in ("standard", "boundary"))
        assert config.evaluate.bf


@pytest.mark.parametrize("name", STUDIES)
def test_the_page_shows_a_correction_as_it_was_tried(name):
    tried = {"prior_alpha": STUDIES[name].alphas, "temperature": STUDIES[name].temperatures}
    for measure, values in tried.items():
        assert [float(study_page._figure(value, measure)) for value in values] == list(values)


def test_the_papers_network_is_trained_in_balance_and_differs_in_the_adversary_alone():
    """With the first rate, and in the blocks that explain with the same one for all arms."""
    study = STUDIES["paper"]
    chosen = {"optimizer.segmenter.learning_rate": 0.02}
    for name, block in study.blocks.items():
        key = (name, "standard"), (name, "printed")
        first, printed = (
            arms.load_config(study_runs.arguments(study, each, chosen, PLACE)) for each in key
        )
        assert printed.loss.lam == 2 / 16
        assert block.choices == "" or study.source(key[1]) == ("strong", "standard")
        for config in (first, printed):
            assert config.loss.balance == 1 and config.segmenter.name == "multiscale"
            for group in ("data", "segmenter", "train", "evaluate"):
                assert config[group] == first[group]
            assert config.optimizer.segmenter == first.optimizer.segmenter
    means = next(configs_of("paper", ("strong", "printed_means")))
    printed = next(configs_of("paper", ("strong", "printed")))
    assert means.loss.lam == 2
    means.loss.lam = printed.loss.lam
    assert means == printed


def test_over_fitting_is_held_back_by_what_is_named_alone():
    study = STUDIES["paper"]
    standard, regularised = (
        arms.load_config(study_runs.arguments(study, ("overfitting", arm), {}, PLACE))
        for arm in ("standard", "regularised")
    )
    assert (standard.train.flip, standard.train.ema, standard.train.patience) == (False, 0, 0)
    assert (regularised.train.flip, regularised.train.ema) == (True, 0.99)
    regularised.train.flip, regularised.train.ema = False, 0.0
    assert regularised == standard


def test_table_2_has_its_rows():
    """Each once; a control fills none."""
    rows = {
        arm: measured.row_of(next(configs_of("voc", (block, arm))).to_dict())
        for (block, arm), _ in STUDIES["voc"].tuned()
    }
    assert rows.pop("boundary") is None
    pairs = [(a, e) for a in hyperparameters.ADVERSARIES for e in hyperparameters.ENCODINGS]
    assert sorted(map(str, rows.values())) == sorted(map(str, ["baseline", *pairs]))


def test_the_adversaries_of_table_2_are_tested_together():
    pools = STUDIES["voc"].blocks["table_2"].pools
    assert {name: len(arms) for name, arms in pools.items()} == {
        **{"adversarial": 12, "adversarial_val_full": 12, "basic": 4, "product": 4, "scaling": 4},
        **{"largefov": 6, "smallfov": 6, "light": 6, "full": 6},
    }
    assert pools["adversarial_val_full"] == tuple(f"{arm}_val_full" for arm in pools["adversarial"])
    assert not set(pools["largefov"]) & set(pools["smallfov"])
    assert not set(pools["full"]) & set(pools["light"])
