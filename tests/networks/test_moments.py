"""Latent scale and the source's map against numpy."""

import numpy as np
import torch

from ctp_ldm.networks import LatentMoments


def test_scale_and_map_are_those_of_all_pixels_together() -> None:
    generator = torch.Generator().manual_seed(0)
    source = torch.randn(6, 3, 4, 5, generator=generator)
    latents = torch.randn(6, 2, 4, 5, generator=generator) + 3 + 2 * source[:, :2]
    moments = LatentMoments(3, 2)
    moments.add(source[:2], latents[:2])
    moments.add(source[2:], latents[2:])
    x = source.transpose(0, 1).flatten(1).double().numpy()
    z = latents.transpose(0, 1).flatten(1).double().numpy()
    mean, deviation = moments.scale()
    np.testing.assert_allclose(mean, z.mean(1))
    np.testing.assert_allclose(deviation, z.std(1))
    standard = (z - z.mean(1, keepdims=True)) / z.std(1, keepdims=True)
    design = np.vstack([np.ones(x.shape[1]), x]).T
    solution, *_ = np.linalg.lstsq(design, standard.T, rcond=None)
    weight, shift = moments.source_map()
    np.testing.assert_allclose(shift, solution[0], atol=1e-9)
    np.testing.assert_allclose(weight, solution[1:].T, atol=1e-9)


def test_two_source_channels_that_are_the_same_share_the_map() -> None:
    source = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    moments = LatentMoments(2, 1)
    moments.add(source.expand(1, 2, 8, 8), 5 * source)
    weight, _ = moments.source_map()
    torch.testing.assert_close(weight, torch.full((1, 2), 0.5 / source.std(unbiased=False).item()).double())
