"""What a segmenter and an adversary are to the rest of the program, and bases with the defaults.

The rest of the program knows the two Protocols. A new network derives from the base beside its
Protocol and adds what the base lacks.
"""

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import flax.linen as nn
from jaxtyping import Array, Float, Key

from segadv_jax.models.geometry import cell_means
from segadv_jax.shapes import AnyArray, CellLabels, CellMaps, Images, Sizes

MIDDLE_GREY = 127.5  # Of RGB in 0..255.
Keys = Key[AnyArray, " n"] | None
Verdicts = Float[Array, "n rows columns 1"]
Seen = Float[AnyArray, "n _ _ _"]  # Of an image, as `Adversary.sees` says.
Embedded = Float[AnyArray, "n h w F"]  # Of an image, by the frozen part of a segmenter.


class FlaxModule(Protocol):
    """What Flax gives both networks, as far as it is used."""

    def init(self, rngs: Any, *args: Any, **kwargs: Any) -> Any: ...
    def apply(self, variables: Any, *args: Any, **kwargs: Any) -> Any: ...
    def clone(self, **fields: Any) -> Any: ...


@runtime_checkable
class Segmenter(FlaxModule, Protocol):
    """A network that predicts the class probabilities of each label cell of an image.

    Nothing that it returns for an image depends on the canvas beyond the image's true size.
    """

    @property
    def num_classes(self) -> int: ...
    @property
    def stride(self) -> int:
        """Pixels from one label cell to the next."""

    @property
    def offset(self) -> float:
        """Cell i lies at pixel `stride * i + offset`."""

    @property
    def margin(self) -> int:
        """Pixels of reflected border that its image comes with, on each side."""

    @property
    def tile(self) -> int:
        """Cells on a side of the tiles that evaluation cuts a whole image into; 0 for none."""

    @property
    def pretrained(self) -> tuple[str, ...]:
        """The parts whose weights come from elsewhere: names at the top of its parameters."""

    @property
    def frozen(self) -> tuple[str, ...]:
        """The parts that are never trained: names at the top of its parameters."""

    def colours(self, image: Images, size: Sizes) -> Float[Array, "n h w 3"]:
        """The colours at the label cells that the *product* encoding shows; their mean is near 0.

        Of an image without its margin.
        """

    def features(self, image: Images, size: Sizes) -> CellMaps:
        """What an adversary can be shown of an image instead of its pixels, at the label cells.

        The image is as for a call. It raises a ValueError if this segmenter offers none.
        """

    def embed(self, image: Images, size: Sizes) -> Embedded:
        """What its frozen part computes of an image, at the label cells.

        A call is `decide` of it, `features` are `features_of` it. It takes none but the frozen
        parameters, and may be kept from step to step. It raises a ValueError if this segmenter has
        no such part.
        """

    def decide(self, embedded: Embedded, size: Sizes, keys: Keys = None) -> CellMaps:
        """Class logits at the label cells f32[n,h,w,C] from what was embedded of images."""

    def features_of(self, embedded: Embedded) -> CellMaps:
        """The features of what was embedded of images."""

    def __call__(self, image: Images, size: Sizes, keys: Keys = None) -> Float[Array, "n h w C"]:
        """Class logits at the label cells.

        The image, RGB in 0..255, comes with its `margin`; `size` is the true one without it. There
        is a key per example, for dropout, and none in evaluation.
        """


class SegmenterModule(nn.Module):
    """A segmenter that lacks `num_classes`, `stride` and `__call__`.

    It has no margin and no tiles; its cells are blocks of `stride` by `stride` pixels, and their
    colours area means of RGB, less a middle grey. All of it is trained from scratch, and it offers
    no features and has no part that can be embedded by itself.
    """

    if TYPE_CHECKING:  # At run time it would be the default of a subclass's field.

        @property
        def stride(self) -> int: ...

    @property
    def offset(self) -> float:
        return (self.stride - 1) / 2

    @property
    def margin(self) -> int:
        return 0

    @property
    def tile(self) -> int:
        return 0

    @property
    def pretrained(self) -> tuple[str, ...]:
        return ()

    @property
    def frozen(self) -> tuple[str, ...]:
        return ()

    def features(self, image: Images, size: Sizes) -> CellMaps:
        raise ValueError("this segmenter offers no features")

    def embed(self, image: Images, size: Sizes) -> Embedded:
        raise ValueError("this segmenter has no frozen part that could be kept")

    def decide(self, embedded: Embedded, size: Sizes, keys: Keys = None) -> CellMaps:
        raise ValueError("this segmenter has no frozen part that could be kept")

    def features_of(self, embedded: Embedded) -> CellMaps:
        raise ValueError("this segmenter offers no features")

    def colours(self, image: Images, size: Sizes) -> Float[Array, "n h w 3"]:
        return cell_means(image - MIDDLE_GREY, size, self.stride, self.offset)


@runtime_checkable
class Adversary(FlaxModule, Protocol):
    """A network that tells ground-truth label maps from a segmenter's (Section 3.2)."""

    @property
    def stride(self) -> int:
        """That of the segmenter whose maps it judges."""

    @property
    def block(self) -> int:
        """Side in label cells of the block that is pooled into one prediction."""

    @property
    def least_cells(self) -> int:
        """Least side in label cells of a map that it can judge."""

    @property
    def sees(self) -> str:
        """What it is shown as the image: its "pixels", or the segmenter's "features" of it."""

    def embed_image(self, image: Seen, size: Sizes) -> Any:
        """What it takes from the image, once for both of its label maps.

        The image is what `sees` says: RGB in 0..255 f32[n,H,W,3], or features at the label cells
        f32[n,h,w,F], of images of true `size` in pixels. What comes out is any tree of arrays, and
        None if the adversary does not look at the image.
        """

    def judge(self, label_map: CellMaps, embedded: Any, size: Sizes) -> Verdicts:
        """One logit per block of cells of an encoded label map: that it is ground truth."""

    def describe(
        self, label_map: CellMaps, embedded: Any, size: Sizes
    ) -> Float[Array, "n rows columns maps"]:
        """What its last layer judges each block of an encoded label map by.

        It raises a ValueError if this adversary has no such features to be matched.
        """

    def block_labels(self, label: CellLabels, size: Sizes) -> CellLabels:
        """The labels of the cells of which `block` by `block` belong to one prediction."""

    def __call__(self, label_map: CellMaps, image: Seen, size: Sizes) -> Verdicts:
        """`judge` of a label map beside its image."""


class AdversaryModule(nn.Module):
    """An adversary that lacks `stride`, `block` and `judge`.

    It does not look at the image, and judges maps of any size up to their border.
    """

    if TYPE_CHECKING:

        def judge(self, label_map: CellMaps, embedded: Any, size: Sizes) -> Verdicts: ...

    @property
    def least_cells(self) -> int:
        return 1

    @property
    def sees(self) -> str:
        return "pixels"

    def embed_image(self, image: Seen, size: Sizes) -> Any:
        del image, size

    def describe(
        self, label_map: CellMaps, embedded: Any, size: Sizes
    ) -> Float[Array, "n rows columns maps"]:
        raise ValueError("this adversary offers no features to be matched")

    def block_labels(self, label: CellLabels, size: Sizes) -> CellLabels:
        del size
        return label

    def __call__(self, label_map: CellMaps, image: Seen, size: Sizes) -> Verdicts:
        return self.judge(label_map, self.embed_image(image, size), size)


def offers_features(adversary: Adversary) -> bool:
    """Whether an adversary has a `describe` of its own."""
    return getattr(type(adversary), "describe", None) is not AdversaryModule.describe
