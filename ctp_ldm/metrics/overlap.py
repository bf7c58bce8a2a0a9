"""Overlap of whole patients' lesions, gathered slice by slice."""

from torch import Tensor

from ctp_ldm.metrics.rows import PatientSums, PatientTable, sum_pixels
from ctp_ldm.sample import Sample


class LesionOverlap(PatientSums):
    """Dice of each patient's whole volume while a segmenter is trained; `lesion_metrics` is for its evaluation.

    dice            2 · both / (found + reference); both empty 1, one empty 0
    false           voxels found outside the reference
    """

    def update(self, found: Tensor, sample: Sample) -> None:
        """Add slices.

        Args:
            found: (B, 1, H, W) bool.
            sample: brain, lesion, case and slice_index.
        """
        reference = (sample["lesion"] * sample["brain"]) > 0.5
        self.add(sample, [sum_pixels(found & reference), sum_pixels(found), sum_pixels(reference)])

    def compute(self) -> PatientTable:
        """Patient → metric → value."""
        return {
            case: {"dice": 2 * both / (found + reference) if found + reference else 1.0, "false": found - both}
            for case, (both, found, reference) in self.sums().items()
        }
