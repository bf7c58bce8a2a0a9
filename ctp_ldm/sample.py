"""What a batch is and what becomes of it, for data, modules and callbacks alike."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

from torch import Tensor


class Sample(TypedDict):
    """One batch of slices (a volume model adds a depth axis D before H).

    H runs from left to right and W from back to front of the head (RAS axes), both on the prepared grid.

    source: (B, Cs, H, W) float in [−1, 1]; outside the brain each channel holds the encoding of physical 0.
    target: (B, Ct, H, W) float in [−1, 1]; absent where a patient has no MRI.
    brain: (B, 1, H, W) float in {0, 1}.
    lesion: (B, 1, H, W) float in {0, 1}; absent where a patient has no lesion mask.
    case: B patient names.
    slice_index: (B,) long, position of the slice in its volume, 0 at the feet.
    flip: (B,) long, how a training slice is reversed: 1 along H, 2 along W, 3 along both, 0 not at all; absent where it
        may be moved in other ways too, and outside training.
    latent: (B, Cz, h, w) float32, what the autoencoder makes of the target; absent where it is not known beforehand.
    """

    source: Tensor
    target: NotRequired[Tensor]
    brain: Tensor
    lesion: NotRequired[Tensor]
    case: list[str]
    slice_index: Tensor
    flip: NotRequired[Tensor]
    latent: NotRequired[Tensor]


@dataclass(frozen=True)
class Showings:
    """The target of every training slice, in every flip that training shows it in.

    keys: case, slice_index and flip of each.
    digest: of the keys and of the targets' content.
    batches: with target (B, Ct, H, W), in half precision as it is stored; together the keys, in their order.
    """

    keys: list[tuple[str, int, int]]
    digest: str
    batches: Iterable[dict[str, Any]]


class Synthesis(TypedDict):
    """What a model makes of a batch of slices, in physical units and 0 outside the brain.

    image: (B, C, H, W) float32; C are the targets, or the one probability of a segmenter.
    deviation: (B, C, H, W) standard deviation over several samples of a model that draws them.
    """

    image: Tensor
    deviation: NotRequired[Tensor]
