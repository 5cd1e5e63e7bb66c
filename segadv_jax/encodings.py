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


def basic(probabilities, label):
    """*Basic*: the class probabilities against the one-hot ground truth, as they are.

    Args:
      probabilities: f32[n,h,w,C], the segmenter's.
      label: u8[n,h,w] cell labels, 255 = void.

    Returns:
      (real, synthetic), each f32[n,h,w,C].
    """
    return one_hot(label, probabilities.shape[-1]), zero_void(probabilities, label)


ENCODINGS = {"basic": basic}
