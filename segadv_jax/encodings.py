"""How label maps are shown to the adversary (Section 3.2).

An encoding turns the segmenter's probabilities and the ground truth into the pair of maps that the
adversary must tell apart. Unlabelled cells are zeroed in both: otherwise the holes in the ground
truth give it away. The same ``where`` stops the gradient there, as the paper asks: those zeros are
no prediction of the segmenter's.
"""

import jax
import jax.numpy as jnp

from segadv_jax import VOID


def one_hot(label, num_classes):
    """One-hot ground truth f32[n,h,w,C] of cell labels u8[n,h,w]; void cells are all zero."""
    return jax.nn.one_hot(label, num_classes)  # 255 is out of range and so encoded as zeros.


def zero_void(label_map, label):
    """f32[n,h,w,C] with exact zeros and exactly zero gradient where the label u8[n,h,w] is void."""
    return jnp.where((label != VOID)[..., None], label_map, 0)


def basic(probabilities, label, colours=None):
    """*Basic*: the class probabilities against the one-hot ground truth, as they are.

    Args:
      probabilities: f32[n,h,w,C], the segmenter's.
      label: u8[n,h,w] cell labels, 255 = void.
      colours: f32[n,h,w,3], the image at the label cells, which is not looked at here.

    Returns:
      (real, synthetic), each f32[n,h,w,C].
    """
    del colours
    return one_hot(label, probabilities.shape[-1]), zero_void(probabilities, label)


def basic_rgb(probabilities, label, colours):
    """*Basic* with the image beside it, the paper's optional RGB input (Figure 1).

    Args:
      probabilities, label: as in ``basic``.
      colours: f32[n,h,w,3], the segmenter's ``colours``.

    Returns:
      (real, synthetic), each f32[n,h,w,C+3].
    """
    colours = zero_void(colours, label)
    maps = basic(probabilities, label)
    return tuple(jnp.concatenate([label_map, colours], -1) for label_map in maps)


def product(probabilities, label, colours):
    """*Product*: both maps multiplied with the image, class by class and colour by colour.

    Args:
      probabilities, label: as in ``basic``.
      colours: f32[n,h,w,3], the segmenter's ``colours``, whose mean is near 0.

    Returns:
      (real, synthetic), each f32[n,h,w,3C]; channel 3c + k is class c times colour k.
    """

    def times_colours(label_map):
        products = label_map[..., :, None] * colours[..., None, :]
        return products.reshape(*label.shape, -1)

    real, synthetic = basic(probabilities, label)
    return times_colours(real), times_colours(synthetic)


def scaling(probabilities, label, colours=None, tau=0.9):
    """*Scaling*: the ground truth softened towards the prediction, so that ones do not betray it.

    Of all distributions with at least mass ``tau`` on the true label l, the real map holds the one
    nearest to the prediction s (smallest KL(real || s)): s itself where s_l >= tau, elsewhere tau
    on l and s_c (1 - tau) / (1 - s_l) on the others. It is a constant to the segmenter.

    Args:
      probabilities, label: as in ``basic``; ``colours`` is not looked at.
      tau: the paper's 0.9.

    Returns:
      (real, synthetic), each f32[n,h,w,C].
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


ENCODINGS = {"basic": basic, "basic_rgb": basic_rgb, "product": product, "scaling": scaling}
