"""One tiny phantom for all tests of its files, and a few simulated patients for tests of its parts."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from ctp_ldm.phantom import write_phantom
from ctp_ldm.phantom.mix import Mix
from ctp_ldm.phantom.parallel import shared_atlas
from ctp_ldm.phantom.patient import Settings
from ctp_ldm.phantom.simulate import Streams, Truth, draw_streams, draw_truth

CASES = 12
SEED = 3
MIX = Mix(lesion_free=0.25)


@dataclass
class Simulated:
    """A patient with all maps behind the images, and the streams that the scanners have yet to use."""

    truth: Truth
    rng: Streams


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("phantom") / "tiny"
    write_phantom(out, cases=CASES, seed=SEED, size="tiny", workers=1, mix=MIX)
    return out


@pytest.fixture(scope="session")
def patients() -> list[Simulated]:
    """Patients of size small, with no old damage: enough voxels of pure tissue to measure in."""
    mix = Mix(0.2, lacune=0, hypoperfusion=0, lesion_free=0, reperfused=0, old_infarct=0, leukoaraiosis=0, late=0)
    return [simulated(Settings(SEED, "small", mix), index) for index in range(1, 7)]


def simulated(settings: Settings, index: int) -> Simulated:
    rng = draw_streams(settings, index)
    return Simulated(draw_truth(rng, settings, index, shared_atlas()), rng)
