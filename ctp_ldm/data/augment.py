"""The published augmentation: flips on both in-plane axes and a small affine, the same for all arrays of a slice."""

import numpy as np
import torch

MASKS = ("brain", "lesion")


class PublishedAugmentation:
    """Flips p = 0.5 on each axis; affine p = 0.9 with rotation ±π/16, shift ±32 mm and scale ±0.001.

    Source: Lee et al. 2025 (arXiv 2510.09056).

    Args:
        spacing: in-plane voxel size in mm; the published shift of 32 pixels was at 1 mm.
    """

    def __init__(self, spacing: float) -> None:
        # Here, because MONAI takes seconds to import and only training needs it.
        from monai.transforms import Compose, RandAffine, RandFlip

        self._transform = Compose(
            [
                RandFlip(prob=0.5, spatial_axis=0),
                RandFlip(prob=0.5, spatial_axis=1),
                RandAffine(
                    prob=0.9,
                    rotate_range=np.pi / 16,
                    translate_range=(32.0 / spacing, 32.0 / spacing),
                    scale_range=(0.001, 0.001),
                    mode="bilinear",
                    # The rim of a slice is background in every channel: repeating it is what lies beyond.
                    padding_mode="border",
                ),
            ]
        )

    def __call__(self, sample: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """One slice's arrays, each (C, H, W); draws from torch's generator, which Lightning seeds per worker.

        All arrays move as the channels of one; a voxel is in a moved mask where more than half of it is.
        """
        self._transform.set_random_state(seed=int(torch.randint(2**31 - 1, ())))
        moved = torch.as_tensor(self._transform(torch.cat(list(sample.values()))).numpy())
        parts = moved.split([array.shape[0] for array in sample.values()])
        return {name: (part > 0.5).float() if name in MASKS else part for name, part in zip(sample, parts, strict=True)}
