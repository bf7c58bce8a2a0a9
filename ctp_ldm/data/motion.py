"""How far the head moves during a perfusion scan."""

import numpy as np

COARSE_MM = 4.0
WINDOW_HU = (-200.0, 300.0)


def frame_shifts(series: np.ndarray, voxel_sizes: np.ndarray) -> np.ndarray:
    """Translation of each frame relative to the first, by cross-correlation of 4 mm averages to a tenth of a voxel.

    Rotation is not looked for; contrast in vessels is a small part of a head, and moves the estimate by some tenths of
    a millimetre.

    Args:
        series: (X, Y, Z, T) HU.
        voxel_sizes: (3,) mm.

    Returns:
        (T, 3) mm along X, Y, Z.
    """
    from skimage.measure import block_reduce
    from skimage.registration import phase_cross_correlation

    block = tuple(max(1, round(COARSE_MM / size)) for size in voxel_sizes)

    def coarse(t: int) -> np.ndarray:
        clipped = np.clip(series[..., t], *WINDOW_HU)
        return np.asarray(block_reduce(clipped, block, np.mean, cval=float(clipped.min())))

    first = coarse(0)
    shifts = [
        phase_cross_correlation(first, coarse(t), upsample_factor=10, normalization=None)[0]
        for t in range(series.shape[-1])
    ]
    # The shift that registers a frame is the opposite of how far it moved.
    return -np.array(shifts) * np.array(block) * np.asarray(voxel_sizes)
