"""Whether the images themselves show the lesion, whoever reads them."""

import math

import numpy as np
from sklearn.metrics import average_precision_score

from ctp_ldm.metrics.regions import mirrored
from ctp_ldm.metrics.volumes import PatientVolumes

LESION_SIDE = {"dwi": 1.0, "adc": -1.0}
"""Target → the sign that turns the lesion's side of its values up."""


def contrast_metrics(volumes: PatientVolumes) -> dict[str, float]:
    """For each of the targets c that are named "dwi" or "adc", of the synthetic image; NaN without lesion.

        ap_c, ap_c_real     average precision of the voxels of tissue, ordered by DWI or by −ADC, for those of lesion:
                            area under precision against sensitivity over all thresholds, without interpolation
                            (scikit-learn). A constant image has the lesion's share of the tissue, nothing to gain
        cnr_c, cnr_c_real   (mean in the lesion − mean in its mirror site) / standard deviation in the mirror site, in
                            tissue, what the lesion covers on both sides left out; negative where the lesion is dark,
                            as in ADC. 0 where both sites are one constant; NaN without a mirror site, or where only
                            that is constant

    Those that end in _real are of the real image: what there is to reach. A contrast-to-noise above it is no gain, as a
    smooth image has one.

    Args:
        volumes: their `tissue` is the brain less fluid.
    """
    tissue = volumes.tissue
    lesion = np.zeros_like(tissue) if volumes.lesion is None else volumes.lesion & tissue
    site = mirrored(lesion, volumes.brain) & tissue & ~lesion
    result: dict[str, float] = {}
    for i, channel in enumerate(volumes.targets):
        if channel in LESION_SIDE:
            for end, images in (("", volumes.synthetic), ("_real", volumes.real)):
                image = images[:, i].astype(float)
                ordered = LESION_SIDE[channel] * image
                result[f"ap_{channel}{end}"] = _average_precision(ordered[tissue], lesion[tissue])
                result[f"cnr_{channel}{end}"] = _contrast_to_noise(image[lesion], image[site])
    return result


def _average_precision(scores: np.ndarray, lesion: np.ndarray) -> float:
    return float(average_precision_score(lesion, scores)) if lesion.any() else math.nan


def _contrast_to_noise(lesion: np.ndarray, site: np.ndarray) -> float:
    if not (len(lesion) and len(site)):
        return math.nan
    if np.ptp(site) == 0:  # its deviation is not exactly 0 in floating point
        return 0.0 if bool((lesion == site[0]).all()) else math.nan
    return float((lesion.mean() - site.mean()) / site.std())
