"""Latents of all that training shows, encoded once and kept in a file that the stages of one autoencoder share."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from tqdm import tqdm

from ctp_ldm.networks import ConfigError, ImageAutoencoder
from ctp_ldm.sample import Sample, Showings
from ctp_ldm.writing import whole_file

KEY = "model.init_args.cache_latents"


class CachedLatents:
    """The autoencoder's means of every target of training, memory-mapped: (N, Cz, h, w) float32.

    Single precision: a run ends with the weights that it would have had without, and half of it would save little. At
    full size a latent takes 86 kB, a nineteenth of its slice in the store.

    The file is named after what was encoded and by what (`file_name`), so it is never of another autoencoder, other
    patients or another augmentation, and appears whole: runs share it one after another and side by side.

    Args:
        path: of the finished file.
        showings: the N targets, in the file's order.
        shape: (Cz, h, w).

    Raises:
        ValueError, OSError: it is missing, truncated or no such array.
    """

    def __init__(self, path: Path, showings: Showings, shape: tuple[int, int, int]) -> None:
        self.array = np.load(path, mmap_mode="r", allow_pickle=False)
        self.rows = {key: row for row, key in enumerate(showings.keys)}
        expected = (len(self.rows), *shape)
        if self.array.shape != expected or self.array.dtype != np.float32:
            raise ValueError(f"it holds {self.array.dtype} {self.array.shape}; expected float32 {expected}")

    def of(self, batch: Sample) -> Tensor:
        """(B, Cz, h, w) float32, of the slices of a batch as they are flipped in it."""
        keys = zip(batch["case"], batch["slice_index"].tolist(), batch["flip"].tolist(), strict=True)
        return torch.from_numpy(self.array[[self.rows[key] for key in keys]])


def provide_latents(
    path: Path, autoencoder: ImageAutoencoder, showings: Showings, shape: tuple[int, int, int], bar: bool
) -> None:
    """Write the file of `CachedLatents` unless a whole one is there, and say which; arguments as `write_latents` has.

    Raises:
        ConfigError: no space, or no right to write there.
    """
    try:
        CachedLatents(path, showings, shape)
        rank_zero_info(f"latents: {path} is used again")
        return
    except FileNotFoundError:
        others = len(list(path.parent.glob("*.npy")))
        why = f"the {others} files there are of another autoencoder, other slices or other flips" if others else "new"
    except (ValueError, OSError, EOFError) as error:
        why = f"what is there is damaged: {error}"
    rank_zero_info(f"latents: encoding {len(showings.keys)} slices and flips of slices into {path} ({why})")
    try:
        write_latents(path, autoencoder, showings, shape, bar)
    except OSError as error:
        raise ConfigError(
            f"{KEY} is {path.parent}, where latents cannot be written ({error}); expected a folder that can be written "
            "to, with space for them, or null"
        ) from error


def file_name(autoencoder: ImageAutoencoder, showings: Showings) -> str:
    """<digest of the autoencoder's config and weights>-<digest of the targets>.npy."""
    digest = hashlib.blake2b(json.dumps(autoencoder.describe(), sort_keys=True).encode(), digest_size=8)
    for name, value in autoencoder.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return f"{digest.hexdigest()}-{showings.digest}.npy"


@torch.no_grad()
def write_latents(
    path: Path, autoencoder: ImageAutoencoder, showings: Showings, shape: tuple[int, int, int], bar: bool
) -> None:
    """Encode targets into a file that appears whole or not at all, in the precision of the weights.

    Args:
        path: of the file; its folder is made.
        autoencoder: in evaluation mode.
        showings: what to encode.
        shape: (Cz, h, w) of each.
        bar: whether to show how far it is.

    Raises:
        OSError: no space, or no right to write there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    first = next(autoencoder.parameters())
    header = {"descr": "<f4", "fortran_order": False, "shape": (len(showings.keys), *shape)}
    # Not through a memory map: where the disk is full that ends the process without a word.
    with whole_file(path) as partial, partial.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        with tqdm(total=len(showings.keys), desc="latents", unit="slice", disable=not bar) as progress:
            for batch in showings.batches:
                latents = autoencoder.encode(batch["target"].to(first)).float().cpu().numpy()
                file.write(latents.astype("<f4").tobytes())
                progress.update(len(latents))
        file.flush()
        os.fsync(file.fileno())
