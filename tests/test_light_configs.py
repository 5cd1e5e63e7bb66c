"""The configurations of the light segmenter: what they say, that each of them trains."""

import functools

import jax
import numpy as np
import pytest
import small

from segadv_jax import configuration, devices, experiment
from segadv_jax.configs import stanford_light, voc_light
from segadv_jax.initialize import initialize
from segadv_jax.train_step import train_step

VOC_ARMS = ("standard", "adversarial", *voc_light.PAIRS)


def test_voc_has_the_paper_s_four_adversaries_with_three_encodings():
    assert len(voc_light.PAIRS) == 12
    config = voc_light.get_config("smallfov_light_scaling")
    assert (config.adversary.name, config.encoding) == ("smallfov_light", "scaling")


@pytest.mark.parametrize("file", ["stanford_light", "voc_light"])
def test_an_unknown_arm_is_refused(file):
    with pytest.raises(Exception, match=f"{file}.py:big: the arm is"):
        configuration.load(f"{file}:big")


@pytest.mark.parametrize("file", [stanford_light, voc_light])
def test_arms_differ_in_the_adversary_alone(file):
    """So that seeds are paired: data, segmenter, optimizer and augmentation are the same."""
    standard, adversarial = (file.get_config(arm) for arm in ("standard", "adversarial"))
    parts = ("init", "data", "segmenter", "train", "evaluate")
    for part in parts:
        assert standard[part] == adversarial[part]
    assert standard.optimizer.segmenter == adversarial.optimizer.segmenter
    assert standard.alternation.schedule == "standard"
    assert adversarial.adversary.image_branch == "features"
    assert adversarial.optimizer.adversary.betas == (0.5, 0.99)


@pytest.mark.parametrize("arm", VOC_ARMS)
def test_every_arm_on_voc_makes_a_step(arm):
    """From the published weights, on two images of noise."""
    config = voc_light.get_config(arm)
    config.train.crop = 64
    setup = experiment.build(config, 21).setup
    state = initialize(setup, 0, (64, 64), 21, config.init)
    batch = small.batch([(64, 64), (50, 61)], (64, 64))
    turn = "standard" if arm == "standard" else "both"
    step = jax.jit(functools.partial(train_step, setup=setup), static_argnames="turn")
    new, metrics = step(state, batch, jax.random.key(0), turn=turn, updates=100)
    assert all(np.isfinite(float(value)) for value in metrics.values())
    moved = {"segmenter"} if arm == "standard" else {"segmenter", "adversary"}
    for player in moved:
        assert not small.equal(new.params[player], state.params[player])
    assert small.equal(new.frozen, state.frozen)
    assert small.equal(devices.replicate(new.frozen), state.frozen)
