"""Segmenters and adversaries by name: a new one takes one line here."""

import functools
from collections.abc import Callable

from segadv_jax.models.adversary import FIELDS_OF_VIEW, FieldOfView, TwoBranch
from segadv_jax.models.contracts import Adversary as Adversary
from segadv_jax.models.contracts import Segmenter as Segmenter
from segadv_jax.models.dilated8 import Dilated8
from segadv_jax.models.efficientnet_lite import EfficientNetLite as EfficientNetLite
from segadv_jax.models.fully_convolutional import FullyConvolutional
from segadv_jax.models.multiscale import MultiScale

# Called with the module's fields; see `contracts.py` for what the modules have in common.
SEGMENTERS: dict[str, Callable[..., Segmenter]] = {
    "multiscale": MultiScale,
    "dilated8": Dilated8,
    "efficientnet_lite0": EfficientNetLite,
}
ADVERSARIES: dict[str, Callable[..., Adversary]] = {
    "two_branch": TwoBranch,
    "fully_convolutional": FullyConvolutional,
} | {name: functools.partial(FieldOfView, layers) for name, layers in FIELDS_OF_VIEW.items()}
