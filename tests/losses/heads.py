"""Small heads and their data's record: `from losses.heads import …`."""

from typing import Any, TypeVar

import torch
from jsonargparse import ArgumentParser
from torch import Tensor

from ctp_ldm.losses import PixelTerm
from ctp_ldm.sample import Sample
from ctp_ldm.scaling import Linear
from ctp_ldm.spec import Channel, DataSpec

Term = TypeVar("Term", bound=PixelTerm)


def spec_of(*targets: str, spacing: float = 2.0, size: tuple[int, int] = (24, 32)) -> DataSpec:
    """The data's record for targets of these names; DWI and ADC for none."""
    names = targets or ("dwi", "adc")
    return DataSpec(
        source=(Channel("ctp", Linear("HU", 0.0, 80.0)),),
        target=tuple(Channel(name, Linear("", 0.0, 1.0)) for name in names),
        spacing=spacing,
        size=size,
    )


def bound(term: Term, spec: DataSpec | None = None) -> Term:
    """The term, bound to DWI and ADC at 2 mm on 24 × 32 pixels unless told otherwise."""
    term.bind(spec or spec_of())
    return term


def head(brain: Tensor, lesion: Tensor | None = None) -> Sample:
    """Slices with these masks (B, 1, H, W)."""
    count = len(brain)
    sample: Sample = {
        "source": torch.zeros(count, 1, *brain.shape[2:]),
        "brain": brain,
        "case": ["a"] * count,
        "slice_index": torch.arange(count),
    }
    if lesion is not None:
        sample["lesion"] = lesion
    return sample


def random_head(count: int = 2, seed: int = 0) -> tuple[Tensor, Tensor, Sample]:
    """Decoded and real images (B, 2, 24, 32) that differ, and elliptic brains with a lesion of 4 × 5 pixels."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(count, 2, 24, 32, generator=generator) * 2 - 1
    decoded = target + 0.3 * torch.randn(target.shape, generator=generator)
    y, x = torch.meshgrid(torch.linspace(-1, 1, 24), torch.linspace(-1, 1, 32), indexing="ij")
    brain = ((y / 0.8) ** 2 + (x / 0.7) ** 2 < 1).float().expand(count, 1, 24, 32).clone()
    lesion = torch.zeros_like(brain)
    lesion[..., 8:12, 10:15] = 1
    return decoded, target, head(brain, lesion)


def gradient(leaf: Tensor) -> Tensor:
    """What a backward pass left there."""
    assert leaf.grad is not None
    return leaf.grad


def from_yaml(text: str) -> PixelTerm:
    """The one term of a config's list, built as the command builds it."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--terms", type=list[PixelTerm])
    config: Any = parser.instantiate(parser.parse_string(text))
    (term,) = config.terms
    assert isinstance(term, PixelTerm)
    return term
