"""Image metrics of whole patients, gathered slice by slice."""

import math
from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from ctp_ldm.metrics.rows import PatientSums, PatientTable, sum_pixels
from ctp_ldm.metrics.similarity import psnr
from ctp_ldm.sample import Sample
from ctp_ldm.spec import DataSpec


class PatientMetrics(PatientSums):
    """MAE, PSNR and SSIM in the brain and MAE in the lesion, per patient and target channel, in physical units.

    Each patient is one volume: sums run over all its slices before anything is divided.

        brain_mae_<c>   mean |error| over brain voxels, in the channel's unit
        psnr_<c>        10 log10(span² / mean squared error over brain voxels), dB; span is the scaling's range
        ssim_<c>        mean over brain voxels of the SSIM map (Wang 2004; Gaussian 11 × 11, σ 1.5) of each slice
        lesion_mae_<c>  mean |error| over lesion voxels in the brain; NaN for patients without lesion
        lesion_voxels   their number

    Args:
        spec: names, units and ranges of the targets.
    """

    def __init__(self, spec: DataSpec, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels = spec.target

    def update(self, prediction: Tensor, target: Tensor, sample: Sample) -> None:
        """Add slices.

        Args:
            prediction, target: (B, Ct, H, W) in physical units.
            sample: brain, lesion (none where absent), case and slice_index of the slices.
        """
        prediction, target = prediction.double(), target.double()
        brain = sample["brain"].double()
        lesion = brain * sample["lesion"].double() if "lesion" in sample else torch.zeros_like(brain)
        columns = [sum_pixels(brain), sum_pixels(lesion)]
        for i, channel in enumerate(self.channels):
            real, synthetic = target[:, i : i + 1], prediction[:, i : i + 1]
            error = synthetic - real
            # In float32, where it takes most of validation: its map is a share, of which five digits are enough.
            similarity = structural_similarity_index_measure(
                synthetic.float(),
                real.float(),
                data_range=channel.scaling.span,
                reduction="none",
                return_full_image=True,
            )[1]
            for values in (error.abs() * brain, error**2 * brain, similarity * brain, error.abs() * lesion):
                columns.append(sum_pixels(values))
        self.add(sample, columns)

    def compute(self) -> PatientTable:
        """Patient → metric → value, patients in order of their names."""
        return {case: self._patient(sums) for case, sums in self.sums().items()}

    def _patient(self, sums: list[float]) -> dict[str, float]:
        brain, lesion, *rest = sums
        result: dict[str, float] = {}
        for i, channel in enumerate(self.channels):
            absolute, squared, similarity, in_lesion = rest[4 * i : 4 * i + 4]
            result[f"brain_mae_{channel.name}"] = absolute / brain
            result[f"psnr_{channel.name}"] = psnr(squared / brain, channel.scaling.span)
            result[f"ssim_{channel.name}"] = similarity / brain
            result[f"lesion_mae_{channel.name}"] = in_lesion / lesion if lesion else math.nan
        return {**result, "lesion_voxels": lesion}


def balanced_mae(patients: PatientTable, spec: DataSpec) -> float:
    """One number to choose checkpoints by: the mean over patients and channels of ½ (brain MAE + lesion MAE) / span.

    Brain MAE alone hardly sees a lesion that fills 3 % of the brain; lesion MAE alone does not see invented ones.
    Patients without lesion count with their brain MAE.
    """
    values = []
    for row in patients.values():
        for channel in spec.target:
            brain, lesion = row[f"brain_mae_{channel.name}"], row[f"lesion_mae_{channel.name}"]
            values.append((brain if math.isnan(lesion) else (brain + lesion) / 2) / channel.scaling.span)
    return sum(values) / len(values)
