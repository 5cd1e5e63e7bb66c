"""What a segmenter and an adversary are to the rest of the program, and bases with the defaults.

The rest of the program knows the two Protocols only. A new network is a Flax module that derives
from the base, which has a default for all that can have one:

    class Mine(SegmenterModule):
        num_classes: int
        stride = 8

        @nn.compact
        def __call__(self, image, size, keys=None): ...


    class Other(AdversaryModule):
        stride: int
        block = 4

        @nn.compact
        def judge(self, label_map, embedded, size): ...
"""

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import flax.linen as nn
from jaxtyping import Array, Float, Key

from segadv_jax.models.geometry import AnyArray, CellLabels, CellMaps, Images, Sizes, cell_means

MIDDLE_GREY = 127.5  # Of RGB in 0..255.


class FlaxModule(Protocol):
    """What Flax gives both networks, as far as it is used."""

    def init(self, rngs: Any, *args: Any, **kwargs: Any) -> Any: ...

    def apply(self, variables: Any, *args: Any, **kwargs: Any) -> Any: ...

    def clone(self, **fields: Any) -> Any: ...


@runtime_checkable
class Segmenter(FlaxModule, Protocol):
    """A network that predicts the class probabilities of each label cell of an image.

    Nothing that it returns for an image depends on the canvas beyond the image's true size.

    Attributes:
        num_classes: C.
        stride, offset: cell i lies at pixel `stride * i + offset` (`geometry.py`).
        margin: pixels of reflected border that its image comes with, on each side; 0 for none.
        tile: in evaluation, cells on a side of the tiles that a whole image is cut into; 0 for
            none.
    """

    @property
    def num_classes(self) -> int: ...

    @property
    def stride(self) -> int: ...

    @property
    def offset(self) -> float: ...

    @property
    def margin(self) -> int: ...

    @property
    def tile(self) -> int: ...

    def __call__(
        self,
        image: Images,
        size: Sizes,
        keys: Key[AnyArray, " n"] | None = None,
    ) -> Float[Array, "n h w C"]:
        """Class logits at the label cells.

        Args:
            image: RGB in 0..255, with its margin.
            size: true sizes in pixels, without the margin.
            keys: one per example, for dropout; None in evaluation.
        """

    def colours(self, image: Images, size: Sizes) -> Float[Array, "n h w 3"]:
        """The colours at the label cells that the *product* encoding shows; their mean is near 0.

        Args:
            image: RGB in 0..255, without the margin.
            size: true sizes in pixels.
        """


@runtime_checkable
class Adversary(FlaxModule, Protocol):
    """A network that tells ground-truth label maps from a segmenter's (Section 3.2).

    Attributes:
        stride: that of the segmenter whose maps it judges.
        block: side in label cells of the block that is pooled into one prediction.
        least_cells: least side in label cells of a map that it can judge.
    """

    @property
    def stride(self) -> int: ...

    @property
    def block(self) -> int: ...

    @property
    def least_cells(self) -> int: ...

    def embed_image(self, image: Images, size: Sizes) -> Any:
        """What it takes from the image, RGB in 0..255, once for both of its label maps.

        Returns:
            Any tree of arrays; None if it does not look at the image.
        """

    def judge(
        self, label_map: CellMaps, embedded: Any, size: Sizes
    ) -> Float[Array, "n rows columns 1"]:
        """One logit per block of label cells: that the map is ground truth.

        Args:
            label_map: encoded (`encodings.py`).
            embedded: of `embed_image`.
            size: true image sizes in pixels.
        """

    def block_labels(self, label: CellLabels, size: Sizes) -> CellLabels:
        """The labels of the cells of which `block` by `block` belong to one prediction."""

    def __call__(
        self,
        label_map: CellMaps,
        image: Images,
        size: Sizes,
    ) -> Float[Array, "n rows columns 1"]:
        """`judge` of a label map beside its image."""


class SegmenterModule(nn.Module):
    """A segmenter that lacks `num_classes`, `stride` and `__call__`.

    It comes without margin and tiles, with cells that are blocks of `stride` x `stride` pixels.
    """

    if TYPE_CHECKING:  # At run time they would be the defaults of a subclass's fields.

        @property
        def stride(self) -> int: ...

    @property
    def offset(self) -> float:
        """The middle of a block of `stride` pixels."""
        return (self.stride - 1) / 2

    @property
    def margin(self) -> int:
        return 0

    @property
    def tile(self) -> int:
        return 0

    def colours(self, image: Images, size: Sizes) -> Float[Array, "n h w 3"]:
        """Area means over the label cells of RGB, less a middle grey."""
        return cell_means(image - MIDDLE_GREY, size, self.stride, self.offset)


class AdversaryModule(nn.Module):
    """An adversary that lacks `stride`, `block` and `judge`.

    It does not look at the image, and judges maps of any size up to their true border.
    """

    if TYPE_CHECKING:

        @property
        def stride(self) -> int: ...

        @property
        def block(self) -> int: ...

        def judge(self, label_map: Any, embedded: Any, size: Any) -> Array: ...

    @property
    def least_cells(self) -> int:
        return 1

    def embed_image(self, image: Images, size: Sizes) -> Any:
        """Nothing."""
        del image, size

    def block_labels(self, label: CellLabels, size: Sizes) -> CellLabels:
        """All labels."""
        del size
        return label

    def __call__(
        self,
        label_map: CellMaps,
        image: Images,
        size: Sizes,
    ) -> Float[Array, "n rows columns 1"]:
        """`judge` of a label map beside its image."""
        return self.judge(label_map, self.embed_image(image, size), size)
