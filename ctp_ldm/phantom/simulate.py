"""One patient from hidden parameters to images: the parts of the phantom, in order."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ctp_ldm.phantom import ct, mri
from ctp_ldm.phantom.anatomy import Atlas, Head, build_head
from ctp_ldm.phantom.chronic import Chronic, draw_chronic
from ctp_ldm.phantom.grid import Mask
from ctp_ldm.phantom.haemodynamics import Perfusion, patient_bolus, perfusion
from ctp_ldm.phantom.lesions import Lesion, draw_lesion
from ctp_ldm.phantom.maps import PerfusionMaps, perfusion_maps
from ctp_ldm.phantom.mri import Diffusion
from ctp_ldm.phantom.patient import Patient, Settings, draw_patient


class Streams(NamedTuple):
    """A patient's independent random streams: changing one part of the phantom leaves the others as they were."""

    hidden: np.random.Generator
    chronic: np.random.Generator
    lesion: np.random.Generator
    circulation: np.random.Generator
    ct: np.random.Generator
    mri: np.random.Generator


@dataclass(frozen=True)
class Truth:
    """What is true of a patient at the time of the CT; maps are (X, Y, Z) on its grid."""

    patient: Patient
    head: Head
    chronic: Chronic
    lesion: Lesion
    flow: Perfusion

    @property
    def brain(self) -> Mask:
        """Tissue, fluid and vessels inside the skull."""
        head = self.head
        return head.tissue + head.csf + head.artery + head.vein > 0.5

    @property
    def tissue(self) -> np.ndarray:
        """uint8: 0 outside, 1 grey, 2 white, 3 fluid, 4 artery, 5 vein, 6 scar, 7 diseased white matter."""
        head = self.head
        kinds = np.stack([0 * head.grey + 0.3, head.grey, head.white, head.csf, head.artery, head.vein])
        labels = np.where(self.brain, kinds.argmax(0), 0)
        labels[(self.chronic.diseased > 0.5) & (labels == 2)] = 7
        labels[(self.chronic.scar > 0.5) & self.brain] = 6
        return labels.astype(np.uint8)


class Computed(NamedTuple):
    """What CT shows: series (X, Y, Z, T) and unenhanced volume (X, Y, Z), int16 HU, and maps made from the series."""

    series: np.ndarray
    unenhanced: np.ndarray
    maps: PerfusionMaps


def draw_streams(settings: Settings, index: int) -> Streams:
    """The random streams of case `index`, which depend on nothing but the seed and the index."""
    seeds = np.random.SeedSequence((settings.seed, index)).spawn(len(Streams._fields))
    return Streams(*map(np.random.default_rng, seeds))


def draw_truth(rng: Streams, settings: Settings, index: int, atlas: Atlas) -> Truth:
    """Draws case `index`."""
    patient = draw_patient(rng.hidden, settings, index)
    chronic, head = draw_chronic(rng.chronic, patient, build_head(atlas, patient))
    lesion = draw_lesion(rng.lesion, patient, head)
    flow = perfusion(rng.circulation, patient, head, lesion.relative_flow, chronic.flow)
    return Truth(patient, head, chronic, lesion, flow)


def scan_ct(rng: Streams, truth: Truth) -> Computed:
    """The CT of a patient."""
    unenhanced = ct.baseline(rng.ct, truth.patient, truth.head, truth.lesion, truth.chronic)
    bolus = patient_bolus(truth.patient)
    series = ct.series(rng.ct, truth.patient, truth.head, unenhanced, truth.flow, bolus)
    plain = ct.unenhanced_scan(rng.ct, truth.patient, unenhanced)
    times, spacing = np.array(truth.patient.frame_times_s), np.array(truth.patient.grid.spacing)
    return Computed(series, plain, perfusion_maps(series, times, spacing, truth.brain))


def scan_mri(rng: Streams, truth: Truth) -> Diffusion:
    """The MRI of a patient, some hours to days later."""
    return mri.diffusion(rng.mri, truth.patient, truth.head, truth.lesion, truth.chronic)
