"""Image metrics of whole patients, gathered slice by slice."""

import math
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.image import structural_similarity_index_measure

from ctp_ldm.sample import Sample
from ctp_ldm.spec import DataSpec

NAME_BYTES = 100
PatientTable = dict[str, dict[str, float]]


class PatientMetrics(Metric):
    """MAE, PSNR and SSIM in the brain and MAE in the lesion, per patient and target channel, in physical units.

    Each patient is one volume: sums run over all its slices before anything is divided. A slice that comes twice (a
    distributed sampler pads with repeats) counts once.

        brain_mae_<c>   mean |error| over brain voxels, in the channel's unit
        psnr_<c>        10 log10(span² / mean squared error over brain voxels), dB; span is the scaling's range
        ssim_<c>        mean over brain voxels of the SSIM map (Wang 2004; Gaussian 11 × 11, σ 1.5) of each slice
        lesion_mae_<c>  mean |error| over lesion voxels in the brain; NaN for patients without lesion
        lesion_voxels   their number

    Args:
        spec: names, units and ranges of the targets.
    """

    full_state_update = False
    names: list[Tensor]
    rows: list[Tensor]

    def __init__(self, spec: DataSpec, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels = spec.target
        self.add_state("names", default=[], dist_reduce_fx="cat")
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    def update(self, prediction: Tensor, target: Tensor, sample: Sample) -> None:
        """Add slices.

        Args:
            prediction, target: (B, Ct, H, W) in physical units.
            sample: brain, lesion (none where absent), case and slice_index of the slices.
        """
        prediction, target = prediction.double(), target.double()
        brain = sample["brain"].double()
        lesion = brain * sample["lesion"].double() if "lesion" in sample else torch.zeros_like(brain)
        columns = [sample["slice_index"].double(), _sum(brain)[:, 0], _sum(lesion)[:, 0]]
        for i, channel in enumerate(self.channels):
            real, synthetic = target[:, i : i + 1], prediction[:, i : i + 1]
            error = synthetic - real
            similarity = structural_similarity_index_measure(
                synthetic, real, data_range=channel.scaling.span, reduction="none", return_full_image=True
            )[1]
            for values in (error.abs() * brain, error**2 * brain, similarity * brain, error.abs() * lesion):
                columns.append(_sum(values)[:, 0])
        self.rows.append(torch.stack(columns, dim=1))
        self.names.append(torch.stack([_to_bytes(name) for name in sample["case"]]).to(prediction.device))

    def compute(self) -> PatientTable:
        """Patient → metric → value, patients in order of their names."""
        if len(self.rows) == 0:
            return {}
        rows = torch.cat(list(self.rows)).cpu() if isinstance(self.rows, list) else self.rows.cpu()
        names = torch.cat(list(self.names)).cpu() if isinstance(self.names, list) else self.names.cpu()
        slices: dict[str, dict[int, Tensor]] = defaultdict(dict)
        for name, row in zip(names, rows, strict=True):
            slices[_from_bytes(name)][int(row[0])] = row[1:]
        return {case: self._patient(torch.stack(list(slices[case].values())).sum(0)) for case in sorted(slices)}

    def _patient(self, sums: Tensor) -> dict[str, float]:
        brain, lesion, *rest = sums.tolist()
        result: dict[str, float] = {}
        for i, channel in enumerate(self.channels):
            absolute, squared, similarity, in_lesion = rest[4 * i : 4 * i + 4]
            span = channel.scaling.span
            result[f"brain_mae_{channel.name}"] = absolute / brain
            # A perfect image would have an infinite PSNR; 120 dB says as much and stays a number.
            result[f"psnr_{channel.name}"] = 10 * math.log10(span**2 / max(squared / brain, 1e-12 * span**2))
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


def _sum(values: Tensor) -> Tensor:
    return values.flatten(2).sum(-1)


def _to_bytes(name: str) -> Tensor:
    """Strings travel between processes as fixed rows of bytes."""
    encoded = name.encode()
    if len(encoded) > NAME_BYTES:
        raise ValueError(f"case name {name!r} is longer than {NAME_BYTES} bytes")
    return torch.tensor(list(encoded.ljust(NAME_BYTES, b"\0")), dtype=torch.uint8)


def _from_bytes(row: Tensor) -> str:
    return bytes(row.tolist()).rstrip(b"\0").decode()
