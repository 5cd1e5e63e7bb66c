"""What a segmenter and an adversary are to the rest of the program, with defaults for most of it.

A new network derives from one of the two and adds what stands under `TYPE_CHECKING`.
"""

from typing import TYPE_CHECKING, Any

import flax.linen as nn
from jaxtyping import Array, Float, Key

from segadv_jax.models.geometry import cell_means
from segadv_jax.shapes import AnyArray, CellLabels, CellMaps, Images, Sizes

MIDDLE_GREY = 127.5  # Of RGB in 0..255.
Keys = Key[AnyArray, " n"] | None
Verdicts = Float[Array, "n rows columns 1"]


class Segmenter(nn.Module):
    """A network that predicts the class probabilities of each label cell of an image.

    Nothing that it returns for an image depends on the canvas beyond the image's true size.
    """

    if TYPE_CHECKING:  # At run time they would be the defaults of a subclass's fields.

        @property
        def num_classes(self) -> int: ...

        @property
        def stride(self) -> int:
            """Pixels from one label cell to the next."""

        def __call__(
            self, image: Images, size: Sizes, keys: Keys = None
        ) -> Float[Array, "n h w C"]:
            """Class logits at the label cells.

            The image, RGB in 0..255, comes with its `margin`; `size` is the true one without it.
            There is a key per example, for dropout, and none in evaluation.
            """

        def apply(self, *args: Any, **kwargs: Any) -> Any: ...

    @property
    def offset(self) -> float:
        """Cell i lies at pixel `stride * i + offset`: in the middle of a block of pixels."""
        return (self.stride - 1) / 2

    @property
    def margin(self) -> int:
        """Pixels of reflected border that its image comes with, on each side."""
        return 0

    @property
    def tile(self) -> int:
        """Cells on a side of the tiles that evaluation cuts a whole image into; 0 for none."""
        return 0

    def colours(self, image: Images, size: Sizes) -> Float[Array, "n h w 3"]:
        """The colours at the label cells that the *product* encoding shows; their mean is near 0.

        Of an image without its margin. Here they are area means of RGB, less a middle grey.
        """
        return cell_means(image - MIDDLE_GREY, size, self.stride, self.offset)


class Adversary(nn.Module):
    """A network that tells ground-truth label maps from a segmenter's (Section 3.2)."""

    if TYPE_CHECKING:

        @property
        def stride(self) -> int:
            """That of the segmenter whose maps it judges."""

        @property
        def block(self) -> int:
            """Side in label cells of the block that is pooled into one prediction."""

        def judge(self, label_map: CellMaps, embedded: Any, size: Sizes) -> Verdicts:
            """One logit per block of cells of an encoded label map: that it is ground truth."""

        def apply(self, *args: Any, **kwargs: Any) -> Any: ...

    @property
    def least_cells(self) -> int:
        """Least side in label cells of a map that it can judge."""
        return 1

    def embed_image(self, image: Images, size: Sizes) -> Any:
        """What it takes from the image, RGB in 0..255, once for both of its label maps.

        It is any tree of arrays, and None if the adversary does not look at the image.
        """
        del image, size

    def block_labels(self, label: CellLabels, size: Sizes) -> CellLabels:
        """The labels of the cells of which `block` by `block` belong to one prediction."""
        del size
        return label

    def __call__(self, label_map: CellMaps, image: Images, size: Sizes) -> Verdicts:
        """`judge` of a label map beside its image."""
        return self.judge(label_map, self.embed_image(image, size), size)
