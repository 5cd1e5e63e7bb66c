"""Segmenters and adversaries by name."""

from segadv_jax.models.adversary import TwoBranch
from segadv_jax.models.multiscale import MultiScale

# A segmenter is called as (image, size) and declares `stride` and `offset` (see geometry.py). An
# adversary has see(image, size) and judge(label_map, seen, size), is called as (label_map, image,
# size), and declares `block`, the side in label cells of what it pools into one prediction.
SEGMENTERS = {"multiscale": MultiScale}
ADVERSARIES = {"two_branch": TwoBranch}
