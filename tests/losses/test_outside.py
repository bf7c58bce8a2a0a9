"""Images that differ inside the brain only."""

import torch

from ctp_ldm.losses.outside import with_real_outside
from losses.heads import gradient, random_head


def test_only_the_brain_is_synthetic() -> None:
    decoded, target, sample = random_head()
    decoded[..., 0, 0] = torch.nan  # outside
    decoded.requires_grad_()
    image = with_real_outside(decoded, target, sample)
    image.sum().backward()
    inside = sample["brain"].bool().expand_as(image)
    assert torch.equal(image[inside], decoded[inside])
    assert torch.equal(image[~inside], target[~inside])
    assert torch.equal(gradient(decoded), inside.float())


def test_what_is_half_precise_is_compared_in_full() -> None:
    decoded, target, sample = random_head()
    assert with_real_outside(decoded.bfloat16(), target, sample).dtype == torch.float32
