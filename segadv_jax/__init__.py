"""Semantic segmentation using adversarial networks (Luc, Couprie, Chintala, Verbeek, 2016).

What a program of your own needs is here, and loaded when it is first used:

- `losses`, `Objective`: Eqs. 1 to 3 as sums and counts; `prediction_weights`.
- `encodings`, `ENCODINGS`: what the adversary is shown (Section 3.2).
- `ADVERSARIES`, `SEGMENTERS`: the networks by name; `AdversaryModule`, `SegmenterModule`: bases.
- `downsample_labels`, `cell_means`, `upsample`: between pixels and label cells.
- `predictor`: a trained run, or its exported weights, as a function of images.
- `VOID`, `InputError`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from segadv_jax import encodings as encodings
    from segadv_jax import losses as losses
    from segadv_jax import predictor as predictor
    from segadv_jax.encodings import ENCODINGS as ENCODINGS
    from segadv_jax.errors import InputError as InputError
    from segadv_jax.losses import Objective as Objective
    from segadv_jax.losses import prediction_weights as prediction_weights
    from segadv_jax.models import ADVERSARIES as ADVERSARIES
    from segadv_jax.models import SEGMENTERS as SEGMENTERS
    from segadv_jax.models.contracts import AdversaryModule as AdversaryModule
    from segadv_jax.models.contracts import SegmenterModule as SegmenterModule
    from segadv_jax.models.geometry import cell_means as cell_means
    from segadv_jax.models.geometry import downsample_labels as downsample_labels
    from segadv_jax.models.geometry import upsample as upsample

VOID = 255  # The label of what has no ground truth: unlabelled pixels, and padding.

# Every module imports VOID from here: what else is here must not be loaded with it.
_MODULES = ("encodings", "losses", "predictor")
_PLACES = {
    "ADVERSARIES": "models",
    "AdversaryModule": "models.contracts",
    "ENCODINGS": "encodings",
    "InputError": "errors",
    "Objective": "losses",
    "SEGMENTERS": "models",
    "SegmenterModule": "models.contracts",
    "cell_means": "models.geometry",
    "downsample_labels": "models.geometry",
    "prediction_weights": "losses",
    "upsample": "models.geometry",
}

__all__ = sorted(["VOID", *_MODULES, *_PLACES])

if not TYPE_CHECKING:  # A type checker would take any name for one of the package's.

    def __getattr__(name):
        import importlib

        if name in _MODULES:
            return importlib.import_module(f"{__name__}.{name}")
        if name in _PLACES:
            return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *__all__})
