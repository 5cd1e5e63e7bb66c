"""The arrays that everything here is made of, by shape; the tests check them at run time."""

from typing import Any

import numpy as np
from jaxtyping import Array, Float, Integer, Shaped, UInt8

AnyArray = Array | np.ndarray  # What functions take; what they compute is JAX's.
Images = Float[AnyArray, "n H W 3"]  # RGB in 0..255.
Pictures = Shaped[AnyArray, "n H W 3"]  # The same, or u8.
Sizes = Integer[AnyArray, "n 2"]  # True heights and widths in pixels.
CellMaps = Float[AnyArray, "n h w C"]
CellLabels = UInt8[AnyArray, "n h w"]  # Classes, 255 = void.
Probabilities = Float[Array, "n H W C"]  # At pixels.
# A batch: {"image": u8[n,H,W,3], "label": u8[n,H,W], "size": i32[n,2], "mask": f32[n]}; rows whose
# mask is 0 only fill it up. What else a training batch can hold is in `train_step`.
Batch = dict[str, Any]
