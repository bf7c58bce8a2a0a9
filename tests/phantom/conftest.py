"""One tiny phantom for all tests of its files, and a few simulated patients for tests of its parts."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from ctp_ldm.phantom import tree, write_phantom
from ctp_ldm.phantom.anatomy import Head, build_head
from ctp_ldm.phantom.haemodynamics import Perfusion, perfusion
from ctp_ldm.phantom.lesions import Lesion, draw_lesion
from ctp_ldm.phantom.patient import Patient, Settings, draw_patient

CASES = 12
SEED = 3


@dataclass
class Simulated:
    """A patient with all maps behind the images, and the streams that the scanners have yet to use."""

    patient: Patient
    head: Head
    lesion: Lesion
    flow: Perfusion
    rng: tree.Streams


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("phantom") / "tiny"
    write_phantom(out, cases=CASES, seed=SEED, size="tiny", workers=1, lesion_free=0.25)
    return out


@pytest.fixture(scope="session")
def patients() -> list[Simulated]:
    """Patients of size small: enough voxels of pure tissue to measure in."""
    return [_simulate(Settings(SEED, "small", 0.0), index) for index in range(1, 7)]


def _simulate(settings: Settings, index: int) -> Simulated:
    rng = tree.draw_streams(settings, index)
    patient = draw_patient(rng.hidden, settings, index)
    head = build_head(tree.shared_atlas(), patient)
    lesion = draw_lesion(rng.lesion, patient, head)
    return Simulated(patient, head, lesion, perfusion(rng.circulation, patient, head, lesion.relative_flow), rng)
