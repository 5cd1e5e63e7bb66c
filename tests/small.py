"""Small networks, batches and states for tests: quick to compile, quick to run."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from segadv_jax import VOID
from segadv_jax.models import MultiScale, TwoBranch
from segadv_jax.models.geometry import count_cells
from segadv_jax.train_state import TrainState

CLASSES = 3
SIZES = np.array([(32, 48), (29, 41), (17, 33), (32, 20)], np.int32)
CANVAS = (32, 48)


def segmenter(**fields):
    """A MultiScale with few maps; every kernel, pooling and level is the real one's."""
    return MultiScale(CLASSES, **{"widths": (4, 6, 8), "hidden": 8} | fields)


def adversary(**fields):
    """A TwoBranch with few maps."""
    few = {"label_features": 4, "image_features": (3, 4), "fused_features": (4, 5, 6)}
    return TwoBranch(**few | fields)


def parameters(module, *args, seed=0):
    """Random parameters, biases too: zero biases would hide what leaks through them."""
    random = np.random.RandomState(seed)

    def draw(leaf):
        fan_in = np.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 20
        return jnp.asarray(random.normal(0, fan_in**-0.5, leaf.shape), leaf.dtype)

    shapes = jax.eval_shape(module.init, jax.random.key(0), *args)["params"]
    return jax.tree.map(draw, shapes)


def segmenter_parameters(module, seed=0):
    sides = [side + 2 * module.margin for side in CANVAS]
    return parameters(module, np.zeros((1, *sides, 3), np.float32), SIZES[:1], seed=seed)


def adversary_parameters(module, seed=1):
    image, size = images(SIZES[:1], CANVAS)
    label_map = np.zeros((1, *cells(CANVAS, module.stride), CLASSES), np.float32)
    return parameters(module, label_map, image, size, seed=seed)


def cells(pixels, stride=4):
    """(h, w) of the label cells of `pixels` (H, W)."""
    return tuple(int(count_cells(p, stride)) for p in pixels)


def images(sizes, canvas, seed=0):
    """(f32[n,H,W,3] in 0..255 with zeros in the padding, i32[n,2]): two inputs of both networks."""
    made = batch(sizes, canvas, seed)
    return made["image"].astype(np.float32), made["size"]


def batch(sizes=SIZES, canvas=CANVAS, seed=0, void=0.2, square=3):
    """Noise on colours that depend on the class; labels in squares of some pixels, some void."""
    random = np.random.RandomState(seed)
    n, (height, width) = len(sizes), canvas
    coarse = random.randint(0, CLASSES, (n, height // square + 1, width // square + 1))
    coarse[random.uniform(size=coarse.shape) < void] = VOID
    label = coarse.repeat(square, 1).repeat(square, 2)[:, :height, :width].astype(np.uint8)
    colour = np.random.RandomState(0).randint(60, 200, (256, 3))
    image = (colour[label] + random.randint(-50, 50, (n, height, width, 3))).astype(np.uint8)
    for row, (h, w) in enumerate(sizes):
        image[row, h:], image[row, :, w:] = 0, 0
        label[row, h:], label[row, :, w:] = VOID, VOID
    size = np.asarray(sizes, np.int32)
    return {"image": image, "label": label, "size": size, "mask": np.ones(n, np.float32)}


def on_canvas(original, canvas, seed=9):
    """The same images on another canvas, whose padding holds garbage; the labels there are void."""
    random = np.random.RandomState(seed)
    n = len(original["size"])
    image = random.randint(0, 256, (n, *canvas, 3)).astype(original["image"].dtype)
    label = np.full((n, *canvas), VOID, np.uint8)
    for row, (h, w) in enumerate(original["size"]):
        image[row, :h, :w] = original["image"][row, :h, :w]
        label[row, :h, :w] = original["label"][row, :h, :w]
    return original | {"image": image, "label": label}


def state(segmenter, adversary, optimizer, seed=0):
    """A TrainState that no step has touched."""
    params = {
        "segmenter": segmenter_parameters(segmenter, seed),
        "adversary": adversary_parameters(adversary, seed + 1),
    }
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))


def momentum(state, player):
    """The momentum of a player; after one step from `state`, its gradient."""
    return optax.tree.get(state.opt_state.inner_states[player], "trace")[player]


def updates_counted(state, player):
    """How many updates the player's learning rate schedule has counted."""
    return int(optax.tree.get(state.opt_state.inner_states[player], "count"))


def equal(left, right):
    """Whether two trees are the same bit for bit."""
    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def assert_close(got, expected, tolerance=1e-4):
    """Compares trees leaf by leaf, relative to each leaf's largest value."""
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for path, want in jax.tree.leaves_with_path(expected):
        have = got
        for key in path:
            have = have[key.key]
        atol = tolerance * np.max(np.abs(want)) + 1e-9
        name = jax.tree_util.keystr(path)
        np.testing.assert_allclose(have, want, rtol=0, atol=atol, err_msg=name)
