"""An image gives the same on its tight canvas as in a batch on a larger one full of garbage."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from segadv_jax import VOID, losses, prediction
from segadv_jax.eval_step import logits_step, zero_totals
from segadv_jax.models import Dilated8
from segadv_jax.models.geometry import downsample_labels

# The common canvas is neither a multiple of the poolings nor of the pyramid.
SHAPES, CANVAS = [(53, 37), (40, 63)], (75, 66)


def tight(row):
    return small.batch([SHAPES[row]], SHAPES[row], seed=row, void=0.3)


def together():
    """The tight images in one batch, the padding full of garbage."""
    padded = [small.on_canvas(tight(row), CANVAS, seed=row + 9) for row in range(len(SHAPES))]
    return {name: np.concatenate([one[name] for one in padded]) for name in padded[0]}


DILATED8 = {"num_classes": small.CLASSES, "width": 1 / 32, "context": "basic"}


@pytest.mark.parametrize(
    "module",
    [
        *(small.segmenter(**f) for f in ({"lcn": "levels"}, {"lcn": "rgb"}, {"shrink": 2})),
        *(Dilated8(padding=padding, **DILATED8) for padding in ("reflect", "same")),
    ],
    ids=lambda module: f"{type(module).__name__}-{module.stride}-{module.offset}",
)
def test_segmenter_and_evaluation_do_not_depend_on_the_canvas(module):
    params = small.segmenter_parameters(module)

    @jax.jit
    def segment(batch):
        """(Logits, probabilities at every pixel, totals of an evaluation)."""
        zeros = zero_totals(small.CLASSES)
        totals, logits = logits_step(params, zeros, batch, segmenter=module)
        shape = batch["image"].shape[1:3]
        return logits, prediction.at_pixels(logits, shape, batch["size"], module), totals

    all_logits, all_probabilities, all_totals = segment(together())
    parts = []
    for row, (h, w) in enumerate(SHAPES):
        logits, probabilities, totals = segment(tight(row))
        cells_high, cells_wide = (-(-side // module.stride) for side in (h, w))
        assert logits.shape == (1, cells_high, cells_wide, small.CLASSES)
        assert probabilities.shape == (1, h, w, small.CLASSES)
        assert np.std(logits) > 0.1
        np.testing.assert_allclose(all_logits[row, :cells_high, :cells_wide], logits[0], atol=1e-4)
        np.testing.assert_allclose(all_probabilities[row, :h, :w], probabilities[0], atol=1e-4)
        assert np.sum(totals["confusion"]) == np.sum(tight(row)["label"] != VOID)
        parts.append(totals)
    total = jax.tree.map(jnp.add, *parts)
    assert all_totals["cells"] == total["cells"] > 25
    np.testing.assert_allclose(all_totals["mce"], total["mce"], rtol=1e-5)
    # A tie within rounding may fall either way.
    assert np.sum(np.abs(all_totals["confusion"] - total["confusion"])) <= 4


def test_adversary_does_not_depend_on_the_canvas():
    module = small.adversary()
    variables = {"params": small.adversary_parameters(module)}
    apply = jax.jit(module.apply)
    random = np.random.RandomState(0)

    def judge(label_map, batch):
        """(Logits f32[n,h',w',1], weights f32[n,h',w'])."""
        image, size = batch["image"].astype(np.float32), batch["size"]
        cell_label = downsample_labels(jnp.asarray(batch["label"]), 4, 1.5)
        weights = losses.prediction_weights(cell_label, module.block)
        logits = apply(variables, label_map, image, size)
        assert weights.shape == logits.shape[:3]
        return logits, weights

    all_maps = random.normal(0, 9, (2, *small.cells(CANVAS), small.CLASSES)).astype(np.float32)
    all_logits, all_weights = judge(all_maps, together())
    total = 0
    for row, shape in enumerate(SHAPES):
        high, wide = small.cells(shape)
        logits, weights = judge(all_maps[row : row + 1, :high, :wide], tight(row))
        h, w = weights.shape[1:]
        np.testing.assert_array_equal(all_weights[row, :h, :w], weights[0])
        np.testing.assert_allclose(all_logits[row, :h, :w], logits[0], atol=1e-4)
        assert np.std(logits) > 0.1
        total += np.sum(weights)
    assert np.sum(all_weights) == total > 0  # No weight lies in the padding.
