"""How far apart two sets of images are, by the features that a network sees in them."""

import math

import numpy as np


def frechet_distance(features_a: np.ndarray, features_b: np.ndarray) -> float:
    """Fréchet distance of two normal distributions fitted to features (Heusel et al. 2017).

    |μ_a − μ_b|² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½), covariances over n − 1. The root's trace is that of the symmetric
    (Σ_a^½ Σ_b Σ_a^½)^½, whose eigenvalues stay real.

    NaN where either set has no more images than features: its covariance then has no full rank, and the distance is
    ruled by the number of images. It is biased upwards for any finite number (Chong & Forsyth 2020): compare only
    distances of equally many images.

    Args:
        features_a, features_b: (N, F), N may differ. Slices of a patient are not independent; this is a distance of
            two sets, without interval.
    """
    if min(len(features_a), len(features_b)) <= features_a.shape[1]:
        return math.nan
    a, b = features_a.astype(float), features_b.astype(float)
    covariance_a, covariance_b = (np.cov(x, rowvar=False).reshape(x.shape[1], -1) for x in (a, b))
    values, vectors = np.linalg.eigh(covariance_a)
    root = vectors * np.sqrt(values.clip(min=0)) @ vectors.T
    shared = np.linalg.eigvalsh(root @ covariance_b @ root).clip(min=0)
    shift = float(((a.mean(0) - b.mean(0)) ** 2).sum())
    return shift + float(np.trace(covariance_a) + np.trace(covariance_b) - 2 * np.sqrt(shared).sum())
