"""The published augmentation: flips on both in-plane axes and a small affine, the same for all arrays of a slice."""

import numpy as np
import torch


class PublishedAugmentation:
    """Flips p = 0.5 on each axis; affine p = 0.9 with rotation ±π/16, shift ±32 mm and scale ±0.001.

    Source: Lee et al. 2025 (arXiv 2510.09056).

    Args:
        spacing: in-plane voxel size in mm; the published shift of 32 pixels was at 1 mm.
    """

    def __init__(self, spacing: float) -> None:
        # Here, because MONAI takes seconds to import and only training needs it.
        from monai.transforms import Compose, RandAffined, RandFlipd

        keys = ("source", "target", "brain", "lesion")
        self._transform = Compose(
            [
                RandFlipd(keys, prob=0.5, spatial_axis=0, allow_missing_keys=True),
                RandFlipd(keys, prob=0.5, spatial_axis=1, allow_missing_keys=True),
                RandAffined(
                    keys,
                    prob=0.9,
                    rotate_range=np.pi / 16,
                    translate_range=(32.0 / spacing, 32.0 / spacing),
                    scale_range=(0.001, 0.001),
                    mode=("bilinear", "bilinear", "nearest", "nearest"),
                    # The rim of a slice is background in every channel: repeating it is what lies beyond.
                    padding_mode="border",
                    allow_missing_keys=True,
                ),
            ]
        )

    def __call__(self, sample: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """One slice's arrays, each (C, H, W); draws from torch's generator, which Lightning seeds per worker."""
        self._transform.set_random_state(seed=int(torch.randint(2**31 - 1, ())))
        moved = self._transform(sample)
        # MONAI hands back its own tensor class, which would go on through collation into the network.
        return {key: torch.as_tensor(value.numpy()) for key, value in moved.items()}
