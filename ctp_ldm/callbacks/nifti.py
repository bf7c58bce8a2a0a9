"""Predictions as whole NIfTI volumes in the geometry of the input."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import nibabel as nib
import numpy as np
import torch
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn

from ctp_ldm import __version__
from ctp_ldm.callbacks.volumes import require_finite
from ctp_ldm.geometry import Geometry
from ctp_ldm.paths import sha256, shown_path
from ctp_ldm.sample import Sample, Synthesis
from ctp_ldm.writing import whole_file

NOTICE = "synthetic, for research use"
MASK = "found_lesion"


class OtherPredictions(ValueError):
    """A folder has predictions of another model."""


class NIfTIWriter(BasePredictionWriter):
    """Writes `predictions/<case>/<case>_desc-synthetic_<target>.nii.gz` and a JSON sidecar under the run folder.

    Of a model that draws several samples, their mean, and `…_desc-deviation_<target>.nii.gz` beside it. Of one that
    finds lesions, their probability, and as `…_desc-found_lesion.nii.gz` where that is above the cut-off: 1 in voxels
    of which half or more is found, else 0. The sidecar says the cut-off.

    A case is written when all its slices have come; outside the brain it is 0. The volume has the shape of the input's
    files, both their forms (qform and sform) with their codes and unit of length, and each target's unit. Where slabs
    were made of thinner slices, every slice of the input is there again, interpolated between slabs, and the sidecar
    says how thick these were. Files appear whole or not at all.
    """

    def __init__(self) -> None:
        super().__init__(write_interval="batch")
        self._slices: dict[str, dict[int, tuple[np.ndarray, np.ndarray]]] = {}
        self._provenance: dict[str, Any] = {}
        self._cutoff = math.nan

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        checkpoint = Path(str(trainer.ckpt_path)) if trainer.ckpt_path else None
        if checkpoint is not None:
            _require_of_one_model(Path(trainer.default_root_dir) / "predictions", sha256(checkpoint))
        self._provenance = {
            "Description": NOTICE,
            "GeneratedBy": f"ctp-ldm {__version__}",
            "Model": f"{type(pl_module).__module__}.{type(pl_module).__qualname__}",
            "Checkpoint": shown_path(checkpoint) if checkpoint else None,
            "CheckpointSHA256": sha256(checkpoint) if checkpoint else None,
            "SamplingSeed": getattr(pl_module, "sampling_seed", None),
            "SamplingSteps": getattr(pl_module, "steps", None),
        }

    def write_on_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        prediction: Synthesis,
        batch_indices: Sequence[int] | None,
        batch: Sample,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        channels = pl_module.outputs
        names = [f"synthetic_{channel.name}" for channel in channels]  # type: ignore[union-attr]
        images = prediction["image"]
        if "deviation" in prediction:
            names += [f"deviation_{channel.name}" for channel in channels]  # type: ignore[union-attr]
            images = torch.cat([images, prediction["deviation"]], dim=1)
        units = [channel.scaling.unit for channel in channels] * (len(names) // len(channels))  # type: ignore[union-attr, arg-type]
        if hasattr(pl_module, "found"):
            self._cutoff = float(pl_module.threshold)  # type: ignore[arg-type]
            names, units = [*names, MASK], [*units, "1 where lesion is found, else 0"]
            images = torch.cat([images, pl_module.found(prediction).to(images)], dim=1)  # type: ignore[operator]
        files = dict(zip(names, units, strict=True))
        arrays = images.float().cpu().numpy()
        require_finite(arrays, batch)
        brains = (batch["brain"][:, 0] > 0.5).cpu().numpy()
        places = zip(batch["case"], batch["slice_index"].tolist(), strict=True)
        for (case, index), image, brain in zip(places, arrays, brains, strict=True):
            slices = self._slices.setdefault(case, {})
            slices[index] = image, brain
            if len(slices) == data.slices_with_brain(case):
                folder = Path(trainer.default_root_dir) / "predictions" / case
                self._write(folder, case, self._slices.pop(case), data.geometry(case), files)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        unwritten, self._slices = sorted(self._slices), {}
        if unwritten and trainer.limit_predict_batches == 1.0:
            raise RuntimeError(f"not written, because slices are missing: {unwritten}")
        if unwritten:
            rank_zero_warn(f"limit_predict_batches cut these patients short; they were not written: {unwritten}")
        rank_zero_only(print)(f"predictions: {Path(trainer.default_root_dir) / 'predictions'} ({NOTICE})")

    def _write(
        self,
        folder: Path,
        case: str,
        slices: dict[int, tuple[np.ndarray, np.ndarray]],
        geometry: Geometry,
        files: Mapping[str, str],
    ) -> None:
        """A file for each channel of the slices.

        Args:
            slices: index → image (C, H, W) and brain (H, W).
            files: what each holds, such as synthetic_dwi → its unit.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(f"{case}_desc-*"):  # such as deviations of an earlier prediction with more samples
            if old.name.removeprefix(f"{case}_desc-").partition(".")[0] not in files:
                old.unlink()
        brain = np.zeros((geometry.slices, *geometry.size), dtype=bool)
        for index, (_, inside) in slices.items():
            brain[index] = inside
        for i, (name, unit) in enumerate(files.items()):
            stack = np.zeros(brain.shape, dtype=np.float32)
            for index, (image, _) in slices.items():
                stack[index] = image[i]
            # A header of its own: the input's free text (descrip, aux_file, db_name, extensions) may name the patient.
            values = geometry.from_grid(stack, brain)
            values = (values >= 0.5).astype(np.uint8) if name == MASK else values
            volume = nib.Nifti1Image(values, np.asarray(geometry.affine))
            volume.header.set_xyzt_units("mm")
            if geometry.forms is not None:
                geometry.forms.apply(volume)
            volume.header["descrip"] = NOTICE.encode()
            path = folder / f"{case}_desc-{name}.nii.gz"
            with whole_file(path) as partial:
                nib.save(volume, partial)
                sidecar = path.with_name(path.name.removesuffix(".nii.gz") + ".json")
                channel = name.partition("_")[2]
                said = {"Case": case, "Channel": channel, "Units": unit, **_thickness(geometry)}
                cutoff = {"Cutoff": self._cutoff} if name == MASK else {}
                _write_json(sidecar, {**self._provenance, **said, **cutoff})


def _require_of_one_model(folder: Path, checkpoint: str) -> None:
    """Refuse to write beside what another model has made: nobody could tell later which image is whose.

    Raises:
        OtherPredictions
    """
    others = set()
    for sidecar in folder.glob("*/*.json"):
        try:
            if json.loads(sidecar.read_text())["CheckpointSHA256"] != checkpoint:
                others.add(sidecar.parent.name)
        except (ValueError, KeyError, TypeError):
            others.add(sidecar.parent.name)
    if others:
        raise OtherPredictions(
            f"{folder} holds predictions of another checkpoint ({len(others)} cases, such as {sorted(others)[:3]}); "
            "move or remove them, or choose another folder with --trainer.default_root_dir"
        )


def _thickness(geometry: Geometry) -> dict[str, Any]:
    """What a sidecar says of slices: in mm, how thick those were that the model made."""
    made, own = geometry.slice_distance, geometry.file_slice_distance
    if geometry.slices == geometry.ras_shape[2]:
        return {"EffectiveSliceThickness": round(made, 4)}
    note = f"made as slabs of {made:.3g} mm; slices {own:.3g} mm apart are interpolated between them and show no more"
    return {"EffectiveSliceThickness": round(made, 4), "SliceNote": note}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with whole_file(path) as partial:
        partial.write_text(json.dumps(content, indent=1, ensure_ascii=False))
