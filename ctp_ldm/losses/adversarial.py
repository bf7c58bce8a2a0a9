"""Terms of a patch discriminator, its freezing, and the weight that balances them with the reconstruction."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# MONAI's PatchAdversarialLoss puts a tanh before its hinge. The published hinge has none: a tanh keeps every score
# inside the margin, so that the discriminator never stops pushing and its gradient fades where it is surest.


def hinge_generator(fake: Tensor) -> Tensor:
    """Minus the mean score of generated patches (Lim & Ye 2017, arXiv 1705.02894).

    Args:
        fake: discriminator's scores of any shape, without a final activation.

    Returns:
        Scalar, float32.
    """
    return -fake.float().mean()


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """½ (mean max(0, 1 − real) + mean max(0, 1 + fake)) (Lim & Ye 2017, arXiv 1705.02894).

    Args:
        real, fake: discriminator's scores of any shape, without a final activation.

    Returns:
        Scalar, float32; 0 once every score is beyond ±1 on its own side.
    """
    return 0.5 * (F.relu(1 - real.float()).mean() + F.relu(1 + fake.float()).mean())


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, layer: Tensor) -> Tensor:
    """‖∇ reconstruction‖ / (‖∇ adversarial‖ + 10⁻⁴) at one layer, at most 10⁴ (VQGAN, Esser et al. 2021, eq. 7).

    With it both terms pull equally hard at the image, whatever their scales.

    Args:
        reconstruction, adversarial: scalar losses of one graph, which is kept for the backward pass.
        layer: weight that both depend on, the decoder's last.

    Returns:
        Scalar, float32, without gradient; 0 where gradients are off and there is nothing to balance.
    """
    if not torch.is_grad_enabled():
        return torch.zeros((), device=layer.device)
    (wanted,) = torch.autograd.grad(reconstruction, layer, retain_graph=True)
    (found,) = torch.autograd.grad(adversarial, layer, retain_graph=True)
    return (wanted.float().norm() / (found.float().norm() + 1e-4)).clamp(0, 1e4)


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Gradients pass through the network, but not to its weights."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)
