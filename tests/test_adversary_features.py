"""What adversaries describe a label map by: the maps that their last convolution takes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from segadv_jax.models import ADVERSARIES
from segadv_jax.models.contracts import AdversaryModule, offers_features
from segadv_jax.models.geometry import count_cells

# Each with the name of its last convolution, and what about it picks the map k at a block.
ONE, CENTRE = np.zeros((1, 1, 1), np.float32), np.zeros((3, 3, 1), np.float32)
ONE[0, 0], CENTRE[1, 1] = 1, 1
MEAN = np.zeros((4, 4, 1), np.float32)
MEAN[1:3, 1:3] = 0.25  # Of the two by two places that the stride of 2 makes one.
CASES = {
    "two_branch": (small.adversary(stride=8, image_branch="features"), "prediction", CENTRE),
    "fully_convolutional": (
        ADVERSARIES["fully_convolutional"](features=(4, 5), stride=8),
        "conv3",
        MEAN,
    ),
    "largefov": (ADVERSARIES["largefov_light"](width=0.1), "conv7", CENTRE),
    "largefov, valid": (ADVERSARIES["largefov_light"](width=0.1, padding="valid"), "conv7", CENTRE),
    "smallfov": (ADVERSARIES["smallfov_light"](width=0.1), "conv6", ONE),
}


def inputs(cells, n=2):
    """(label map, features as the image, sizes) of maps whose cells are all true."""
    random = np.random.RandomState(0)
    label_map, seen = (random.normal(size=(n, *cells, c)).astype(np.float32) for c in (3, 6))
    return label_map, seen, np.tile(np.int32(cells) * 8, (n, 1))


def run(module, params, label_map, seen, size):
    """(described, verdicts)."""

    @jax.jit
    def both(params):
        variables = {"params": params}
        embedded = module.apply(variables, seen, size, method="embed_image")
        return [
            module.apply(variables, label_map, embedded, size, method=method)
            for method in ("describe", "judge")
        ]

    return map(np.asarray, both(params))


@pytest.mark.parametrize("name", CASES)
def test_they_are_what_the_last_layer_judges_each_block_by(name):
    module, last, picks = CASES[name]
    args = inputs((40, 48))
    params = small.parameters(module, *args)
    maps = params[last]["kernel"].shape[2]
    lively, _ = run(module, params, *args)
    for chosen in np.argsort(lively.std((0, 1, 2)))[-2:]:
        kernel = np.zeros(params[last]["kernel"].shape, np.float32)
        kernel[..., chosen, -1:] = picks  # The last of FieldOfView's two says "ground truth".
        judged_by = params | {last: {"kernel": kernel, "bias": jnp.zeros(kernel.shape[-1])}}
        described, verdicts = run(module, judged_by, *args)
        assert described.shape == (*verdicts.shape[:3], maps)
        np.testing.assert_allclose(described[..., chosen], verdicts[..., 0], atol=1e-5)
        assert described[..., chosen].std() > 0.01


@pytest.mark.parametrize("name", CASES)
def test_they_do_not_depend_on_the_canvas(name):
    module, _, _ = CASES[name]
    label_map, seen, size = inputs((37, 45))
    params = small.parameters(module, label_map, seen, size)
    tight, _ = run(module, params, label_map, seen, size)
    wide = [
        np.pad(x, [(0, 0), (0, 11), (0, 3), (0, 0)], constant_values=7) for x in (label_map, seen)
    ]
    got, _ = run(module, params, *wide, size)
    rows, columns = tight.shape[1:3]
    if name != "largefov, valid":
        assert (rows, columns) == tuple(count_cells(side, module.block) for side in (37, 45))
    np.testing.assert_allclose(got[:, :rows, :columns], tight, atol=1e-5)


def test_an_adversary_without_them_says_so():
    class Plain(AdversaryModule):
        stride = 8
        block = 4

        def judge(self, label_map, embedded, size):
            return label_map

    assert not offers_features(Plain())
    assert all(offers_features(module) for module, _, _ in CASES.values())
    with pytest.raises(ValueError, match="no features"):
        Plain().describe(np.zeros((1, 4, 4, 3), np.float32), None, np.array([[4, 4]]))
