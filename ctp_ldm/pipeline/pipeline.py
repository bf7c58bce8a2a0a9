"""The diffusers pipeline of a trained latent model."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import AutoencoderKL, DiffusionPipeline, UNet2DModel, VQModel
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput, is_accelerate_available
from torch import Tensor
from torch.nn import functional as F

from ctp_ldm.networks import (
    ConditionEncoder,
    SourceMean,
    build_condition,
    build_scheduler,
    image_factor,
    initial_noise,
    plain_config,
    sample_latents,
    unshuffled,
)
from ctp_ldm.pipeline.folder import write_folder
from ctp_ldm.pipeline.generators import given_generators
from ctp_ldm.pipeline.layout import (
    AUTOENCODER,
    BRIDGE,
    CONDITION,
    DENOISER,
    MOMENTS,
    NOT_IN_CONFIG,
    NOTICE,
    PREFIXES,
    SCHEDULER,
)
from ctp_ldm.pipeline.parts import beside, components, require_denoiser
from ctp_ldm.pipeline.reading import read_folder
from ctp_ldm.runs import KEY
from ctp_ldm.spec import DataSpec


@dataclass
class CTPLDMOutput(BaseOutput):
    """Synthetic images.

    images: (B, Ct, H, W) float32 in physical units.
    channels: name of each channel.
    units: unit of each channel.
    notice: what must be said of them wherever they go.
    """

    images: Tensor
    channels: list[str]
    units: list[str]
    notice: str


class CTPLDMPipeline(DiffusionPipeline):
    """Target images from the source, such as diffusion MRI from CT perfusion, slice by slice.

        pipeline = CTPLDMPipeline.from_pretrained("folder").to("cuda")
        found = pipeline(source, brain, case="sub-01", slice_index=range(len(source)))

    It gives what `ctp-ldm predict` gives for the same slices of the same case.

    Args:
        autoencoder, denoiser, scheduler: components, in diffusers' sense.
        condition: another, where the condition has weights; else the record says what it is.
        latents: mean, std (1, Cz, 1, 1) of the latents; of a bridge source_map (Cz, Cs, 1, 1) and source_shift (Cz,).
        record: what a checkpoint says of itself: stage, spec, sampling.

    Raises:
        ValueError: without latents or record; use `from_pretrained` or `from_checkpoint`.
    """

    model_cpu_offload_seq = "condition->denoiser->autoencoder"
    _optional_components = [CONDITION]

    def __init__(
        self,
        autoencoder: VQModel | AutoencoderKL,
        denoiser: UNet2DModel,
        scheduler: SchedulerMixin,
        condition: ConditionEncoder | None = None,
        latents: Mapping[str, Tensor] | None = None,
        record: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if latents is None or record is None:
            raise ValueError(
                "networks and schedule alone do not say what their numbers mean; use from_pretrained(FOLDER) or "
                "from_checkpoint(runs.read_checkpoint(PATH))"
            )
        self.register_modules(autoencoder=autoencoder, denoiser=denoiser, scheduler=scheduler, condition=condition)
        self.latents = {name: tensor.float() for name, tensor in latents.items()}
        self.record = dict(record)
        self.spec = DataSpec.from_plain(self.record["spec"])
        self.unshuffle = unshuffled(self.record.get(AUTOENCODER, {}))
        self.factor = image_factor(autoencoder.config, self.unshuffle)
        """Image pixels per latent pixel along each axis."""
        sources = len(self.spec.source)
        self._mean = SourceMean(sources, self.factor)
        said = self.record.get(CONDITION) if condition is None else None
        self._weightless = build_condition(said, sources, self.factor)
        if isinstance(self._weightless, ConditionEncoder):
            raise ValueError("condition is None; the record says that the model has a ConditionEncoder: give it")

    @classmethod
    def from_checkpoint(cls, checkpoint: Mapping[str, Any], name: str = "the checkpoint") -> Self:
        """The pipeline of a checkpoint of stage diffusion or posttrain, as `runs.read_checkpoint` gives it.

        Args:
            name: of the checkpoint, for messages.

        Raises:
            CheckpointError: an autoencoder alone, or incomplete.
        """
        require_denoiser(checkpoint, name)
        return cls(**components(checkpoint, name), **beside(checkpoint))

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str], **kwargs: Any) -> Self:
        """Load a folder that `save_pretrained` or `ctp-ldm convert` wrote, after all of it was found to fit together.

        Args:
            folder: on this machine.
            kwargs: see diffusers' `DiffusionPipeline.from_pretrained`.

        Raises:
            CheckpointError: another folder, an autoencoder alone, or files that are missing, damaged or do not fit.
        """
        checkpoint = read_folder(Path(folder))
        require_denoiser(checkpoint, str(folder))
        # diffusers would warn of what is faster with accelerate, which this package does not need.
        settings = {"low_cpu_mem_usage": is_accelerate_available(), **kwargs, "use_safetensors": True}
        loaded: Self = super().from_pretrained(folder, **beside(checkpoint), **settings)
        return loaded

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], safe_serialization: bool = True, **others: Any
    ) -> None:
        """Write the folder that `from_pretrained` and `init_from` take.

        Args:
            save_directory: a folder that is empty or not there.
            safe_serialization, others: diffusers' own; only safetensors are written, in one piece and here.

        Raises:
            ValueError: other wishes.
            CheckpointError: no place to write.
        """
        if not safe_serialization or any(others.values()):
            wishes = [name for name, value in others.items() if value]
            raise ValueError(
                "save_pretrained writes whole safetensors into a folder here, nothing else; found "
                f"{wishes or 'safe_serialization=False'}"
            )
        write_folder(self.to_checkpoint(), Path(save_directory))

    def to_checkpoint(self) -> dict[str, Any]:
        """The way back from `from_checkpoint`: weights and record, as `runs.read_checkpoint` gives them."""
        parts = {AUTOENCODER: self.autoencoder, DENOISER: self.denoiser, SCHEDULER: self.scheduler}
        if self.condition is not None:
            parts[CONDITION] = self.condition
        state = {f"{PREFIXES[p]}{k}": v for p in PREFIXES if p in parts for k, v in parts[p].state_dict().items()}
        state |= {(MOMENTS | BRIDGE)[name]: tensor for name, tensor in self.latents.items()}
        configs = {name: plain_config(part) for name, part in parts.items()}
        # A folder's config says the real scale for other code; the checkpoint has that in its latents' moments.
        before = self.record.get(AUTOENCODER, {})
        configs[AUTOENCODER] |= {key: before[key] for key in NOT_IN_CONFIG if key in before}
        return {"state_dict": state, KEY: {**self.record, **configs}}

    def encode_source(self, values: Tensor) -> Tensor:
        """(B, Cs, H, W) in each channel's unit → the same in [−1, 1], float32.

        Raises:
            ValueError: other channels, or values that are no numbers.
        """
        self._require_source(values)
        scaled = values.float()
        return torch.stack([c.scaling.encode(scaled[:, i]) for i, c in enumerate(self.spec.source)], dim=1)

    @torch.no_grad()
    def __call__(
        self,
        source: Tensor,
        brain: Tensor | None = None,
        case: str | Sequence[str] = "",
        slice_index: Sequence[int] | Tensor | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        num_inference_steps: int | None = None,
        physical: bool = True,
    ) -> CTPLDMOutput:
        """Synthesise.

        Args:
            source: (B, Cs, H, W) on a grid of the model's spacing, H from left to right and W from back to front.
            brain: (B, 1, H, W), 1 inside; the images are 0 outside it, and the source is taken for 0 there.
            case: name of the patient, or one for each slice. With the slice's index it says which noise the slice gets,
                so that it is the same in any batch.
            slice_index: (B,) position of each slice in its volume; 0, 1, … if not given.
            generator: on the CPU, of all slices or one for each, instead of those that follow from case and index.
            num_inference_steps: of sampling; those of the training's validation if not given.
            physical: the source is in its channels' units (`spec.source`); else in [−1, 1], as a batch has it.

        Returns:
            Images in physical units.

        Raises:
            ValueError: a source or brain of another shape, or steps that the model cannot be sampled with.
        """
        source = self._prepared(source, brain, physical)
        steps = self._steps(num_inference_steps)
        generators = given_generators(len(source), self.record["sampling"]["seed"], case, slice_index, generator)
        condition = self._condition(source)
        sampling = self.record["sampling"]
        shape = (self.denoiser.config["out_channels"], *condition.shape[2:])
        noise = initial_noise(sampling["noise"], generators, sampling["seed"], shape, condition.device)
        with self.progress_bar(total=steps) as bar:

            def predict(noisy: Tensor, timesteps: Tensor) -> Tensor:
                output = self.denoiser(torch.cat([noisy, condition], dim=1).to(self.denoiser.dtype), timesteps)
                bar.update()
                found: Tensor = output.sample.float()
                return found

            latents = sample_latents(predict, self.scheduler, steps, noise, generators)
        images = self._decode(latents + self._endpoint(source))
        if brain is not None:
            images = images * brain.to(images)
        self.maybe_free_model_hooks()
        return CTPLDMOutput(
            images=images,
            channels=self.spec.target_names,
            units=[channel.scaling.unit for channel in self.spec.target],
            notice=NOTICE,
        )

    def _prepared(self, source: Tensor, brain: Tensor | None, physical: bool) -> Tensor:
        """(B, Cs, H, W) in [−1, 1], on the device."""
        self._require_source(source)
        multiple = self.factor * 2 ** (len(self.denoiser.config["block_out_channels"]) - 1)
        if any(n % multiple for n in source.shape[2:]):
            raise ValueError(
                f"source is {tuple(source.shape[2:])} pixels; expected multiples of {multiple}, such as the "
                f"{self.spec.size} that the model was trained on: pad it"
            )
        if brain is not None and tuple(brain.shape) != (len(source), 1, *source.shape[2:]):
            raise ValueError(f"brain is {tuple(brain.shape)}; expected {(len(source), 1, *source.shape[2:])}")
        source = source.to(self._execution_device, torch.float32)
        if not physical:
            return source
        # As in training: what is outside the brain has the value 0 in each channel's unit.
        masked = source if brain is None else torch.where(brain.to(source) > 0, source, 0.0)
        return self.encode_source(masked)

    def _require_source(self, source: Tensor) -> None:
        names = [channel.name for channel in self.spec.source]
        if source.ndim != 4 or source.shape[1] != len(names):
            raise ValueError(f"source is {tuple(source.shape)}; expected (B, {len(names)}, H, W) with channels {names}")
        if not source.isfinite().all():
            raise ValueError("source has values that are no numbers (NaN or infinite)")

    def _steps(self, wanted: int | None) -> int:
        sampling = self.record["sampling"]
        steps = sampling["steps"] if wanted is None else wanted
        if steps != sampling["steps"] and sampling["noise"] != "random":
            raise ValueError(
                f"num_inference_steps is {steps}; the model was trained with {sampling['noise']} noise for "
                f"{sampling['steps']} sampling step(s) and knows no other timesteps"
            )
        # The scheduler may have been exchanged; this refuses kinds and steps that do not end at clean latents.
        build_scheduler(plain_config(self.scheduler), steps)
        return int(steps)

    def _condition(self, source: Tensor) -> Tensor:
        """(B, Cs, H, W) on the latents' grid, as the denoiser takes it."""
        if self.condition is None:
            return self._weightless(source)
        encoded: Tensor = self.condition(source.to(self.condition.dtype))
        return encoded

    def _endpoint(self, source: Tensor) -> Tensor:
        """The standardised latents where a bridge ends; 0 of diffusion, which ends in noise."""
        if "source_map" not in self.latents:
            return source.new_zeros(())
        weight, shift = (self.latents[name].to(source.device) for name in BRIDGE)
        return F.conv2d(self._mean(source), weight, shift)

    def _decode(self, latents: Tensor) -> Tensor:
        """Standardised latents → images in physical units."""
        mean, std = (self.latents[name].to(latents.device) for name in MOMENTS)
        decoded = self.autoencoder.decode((latents * std + mean).to(self.autoencoder.dtype)).sample
        images = F.pixel_shuffle(decoded, self.unshuffle)
        return self.spec.decode_target(images.float().clamp(-1, 1))
