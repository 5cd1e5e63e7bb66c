"""How label maps are shown to the adversary (Section 3.2).

An encoding turns the segmenter's probabilities and the ground truth into the pair of maps that the
adversary must tell apart. Unlabelled cells are zeroed in both: otherwise the holes would give the
ground truth away. The same `where` stops the gradient there, as the paper asks: the segmenter did
not predict those zeros.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from segadv_jax import VOID
from segadv_jax.shapes import AnyArray, CellLabels, CellMaps

Colours = Float[AnyArray, "n h w 3"]  # At the label cells, the segmenter's `colours`.
Pair = tuple[Float[Array, "n h w encoded"], Float[Array, "n h w encoded"]]  # (real, synthetic)


def one_hot(label: CellLabels, num_classes: int) -> Float[Array, "n h w C"]:
    """One-hot ground truth; void cells are all zero."""
    return jax.nn.one_hot(label, num_classes)  # 255 is out of range and so encoded as zeros.


def zero_void(label_map: CellMaps, label: CellLabels) -> Float[Array, "n h w C"]:
    """The map with exact zeros and exactly zero gradient where the label is void."""
    return jnp.where((label != VOID)[..., None], label_map, 0)


def basic(probabilities: CellMaps, label: CellLabels, colours: Colours | None = None) -> Pair:
    """*Basic*: the class probabilities as they are against the one-hot ground truth; C channels."""
    del colours
    return one_hot(label, probabilities.shape[-1]), zero_void(probabilities, label)


def basic_rgb(probabilities: CellMaps, label: CellLabels, colours: Colours) -> Pair:
    """*Basic* with the image beside it, the paper's optional input (Figure 1); C + 3 channels."""
    colours = zero_void(colours, label)
    real, synthetic = basic(probabilities, label)
    return jnp.concatenate([real, colours], -1), jnp.concatenate([synthetic, colours], -1)


def product(probabilities: CellMaps, label: CellLabels, colours: Colours) -> Pair:
    """*Product*: both maps multiplied with the image, whose mean is near 0.

    Of the 3C channels 3c + k is class c times colour k.
    """

    def times_colours(label_map):
        products = label_map[..., :, None] * colours[..., None, :]
        return products.reshape(*label.shape, -1)

    real, synthetic = basic(probabilities, label)
    return times_colours(real), times_colours(synthetic)


def scaling(
    probabilities: CellMaps, label: CellLabels, colours: Colours | None = None, tau: float = 0.9
) -> Pair:
    """*Scaling*: the ground truth softened towards the prediction, so that ones do not betray it.

    Of all distributions with at least mass `tau` on the true label l, the real map holds the one
    nearest to the prediction s (smallest KL(real || s)): s itself where s_l >= tau, elsewhere tau
    on l and s_c (1 - tau) / (1 - s_l) on the others. It is a constant to the segmenter. The paper's
    `tau` is 0.9.
    """
    del colours
    s = jax.lax.stop_gradient(probabilities)
    is_true = one_hot(label, s.shape[-1]) > 0
    s_true = jnp.sum(jnp.where(is_true, s, 0), -1, keepdims=True)
    soften = s_true < tau
    rest = jnp.where(soften, 1 - s_true, 1)  # Above 1 - tau where it divides: never 0.
    softened = jnp.where(is_true, tau, s * (1 - tau) / rest)
    real = jnp.where(soften, softened, s)
    return zero_void(real, label), zero_void(probabilities, label)


ENCODINGS: dict[str, Callable[[CellMaps, CellLabels, Colours], Pair]] = {
    encoding.__name__: encoding for encoding in (basic, basic_rgb, product, scaling)
}
