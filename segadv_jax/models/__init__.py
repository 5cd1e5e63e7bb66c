"""Segmenters and adversaries by name."""

import functools

from segadv_jax.models.adversary import FIELDS_OF_VIEW, FieldOfView, TwoBranch
from segadv_jax.models.dilated8 import Dilated8
from segadv_jax.models.multiscale import MultiScale

# A segmenter is called as (image, size, keys) and declares `stride` and `offset` (see geometry.py)
# and `margin`, the pixels of reflected border that its image comes with. An adversary has
# see(image, size), judge(label_map, seen, size) and judged(label, size), is called as (label_map,
# image, size), and declares `block`, the side in label cells of what it pools into one prediction.
SEGMENTERS = {"multiscale": MultiScale, "dilated8": Dilated8}
ADVERSARIES = {"two_branch": TwoBranch} | {
    name: functools.partial(FieldOfView, layers) for name, layers in FIELDS_OF_VIEW.items()
}
