"""The hidden parameters of a simulated patient: everything that is drawn, drawn here and only once."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from ctp_ldm.phantom.grid import Grid, StorageOrder, oblique_grid
from ctp_ldm.phantom.mix import Mix, SizeName
from ctp_ldm.phantom.vessels import TERRITORIES, Territory

Kind = Literal["territorial", "emboli", "lacune", "hypoperfusion", "lesion-free"]
Scan = Literal["usual", "truncated", "late"]

GOLDEN_RATIO = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Size:
    """Ranges of an acquisition: in-plane voxels and their edge (mm), slices and their thickness (mm), frames, seconds.

    `coverage_mm` bounds the slab: the number of slices follows from it and the thickness, within `slices`.
    """

    plane: tuple[int, int]
    spacing_mm: tuple[float, float]
    slices: tuple[int, int]
    thickness_mm: tuple[float, ...]
    coverage_mm: tuple[float, float]
    frames: tuple[int, int]
    duration_s: tuple[float, float]


SIZES: dict[SizeName, Size] = {
    "tiny": Size((32, 40), (6.0, 6.2), (6, 6), (12.0, 13.0, 14.0), (72, 84), (18, 22), (45, 50)),
    "small": Size((96, 112), (1.95, 2.1), (12, 16), (5.0, 6.0, 7.0, 8.0), (75, 98), (30, 40), (50, 65)),
    "standard": Size((96, 112), (2.0, 2.0), (16, 18), (5.0,), (80, 90), (40, 60), (50, 65)),
    "full": Size((192, 224), (0.98, 1.04), (32, 32), (4.0,), (128, 128), (45, 60), (50, 70)),
}


class Settings(NamedTuple):
    """What decides every voxel of every patient of a phantom; how many patients there are does not."""

    seed: int
    size: SizeName
    mix: Mix


@dataclass(frozen=True)
class Wave:
    """One sine wave of the individual deformation: displacement (mm), frequency (rad/mm) and phase (rad)."""

    amplitude_mm: tuple[float, ...]
    frequency: tuple[float, ...]
    phase: float


@dataclass(frozen=True)
class Patient:
    """One patient, scan and lesion, before any voxel exists.

    Ranges without a paper behind them are ordinary practice of stroke imaging.
    """

    index: int
    """Number of the case, from 1."""

    # Acquisition. Anisotropic, slightly oblique grids in several storage orders are what ISLES'24 holds.
    grid: Grid
    frame_times_s: tuple[float, ...]

    # Head: template to patient.
    head_scale: tuple[float, ...]
    """Size relative to MNI152 along x, y, z; the template is larger than most adult heads."""
    head_turn_degrees: tuple[float, ...]
    """How the head lies in the scanner, beyond the grid's own obliqueness."""
    head_position_mm: tuple[float, ...]
    """World coordinates of the template's origin: where the table stood."""
    deformation: tuple[Wave, ...]
    skull_mm: float
    """Thickness of the vault, 6-8 mm (Lillie et al. 2016)."""
    scalp_mm: float

    # Contrast bolus: gamma variate with alpha = 3 (Fieselmann et al. 2011).
    scan: Scan
    arrival_s: float
    """Bolus arrival at the circle of Willis: 6-16 s into the scan, 18-28 s in late ones."""
    beta_s: float
    """Width of the gamma variate, 1.5-2.5 s, up to 3 s in late ones."""
    recirculation: float
    """Area of the second pass relative to the first, 10-20 %."""
    grey_peak_hu: float
    """Peak enhancement of healthy grey matter; the contrast dose is set by it (arteries then reach 200-400 HU)."""

    # Circulation.
    flow: float
    """Global blood flow relative to 60 / 25 mL/100 g/min in grey / white matter; lower in older patients."""
    venous_delay_s: float

    # Lesion.
    kind: Kind
    side: Literal["left", "right"]
    territory: Territory
    core_ml: float
    """Volume of infarct aimed at: log-normal, median 15 mL, sigma 1.4; emboli 0.1-2 mL."""
    emboli: int
    onset_minutes: float
    """Hidden: time from occlusion to CT."""
    recanalised_minutes: float
    """Hidden: time from occlusion to reperfusion, infinite where it never comes. Before the CT the deficit is gone and
    the infarct is not; after it, the sooner it comes the more of the deficit is spared. Of those treated 71 % are
    reperfused (HERMES, Goyal et al. 2016)."""
    collaterals: float
    """Hidden: 0 none to 1 excellent. They set the residual flow, and how fast low flow turns into infarct."""
    hypoperfused_ml: float
    """Volume of low flow behind a large artery, whatever of it infarcts; log-normal, median 200 mL."""

    # Old damage.
    scar_ml: float
    """Volume of an earlier infarct; log-normal, median 6 mL; 0 for none."""
    leukoaraiosis: float
    """0 none to 1 severe."""

    # CT.
    blood_hu: float
    bone_hu: float
    ct_offset_hu: float
    """Calibration differs between scanners by a HU or two."""
    ct_noise_hu: float
    """Noise SD at 5 mm slices, 3-6 HU."""

    # MRI.
    mri_hours: float
    """Hidden: time from occlusion to MRI. T2 in the infarct, and so its b0 signal, rises over the first days."""
    core_adc: float
    """ADC of infarcted tissue, 10^-6 mm^2/s; with soft edges and some fluid the label's mean is then 620 +- 75."""
    mri_gain: float
    """Arbitrary scanner scale: b0 signal of grey matter."""
    mri_noise: float
    """Noise SD relative to the b0 signal of grey matter."""
    mri_shift_mm: tuple[float, ...]
    mri_turn_degrees: tuple[float, ...]
    """What registration leaves between CT and MRI: together 1-2 mm."""
    distortion_mm: float
    """SD of the echo-planar displacement along the phase-encoding axis (front to back)."""

    @property
    def name(self) -> str:
        """The case's name in the tree."""
        return f"sub-stroke{self.index:04d}"

    @property
    def reperfused(self) -> bool:
        """Whether flow is back before the CT."""
        return self.recanalised_minutes < self.onset_minutes

    @property
    def infarcted_fraction(self) -> float:
        """Part of the low-flow region that is core on the MRI.

        Infarction is a race between time and collaterals: half of the region is lost after 40 minutes without and
        after 7 hours with excellent ones, the span from fast to slow progressors. It ends with reperfusion.
        """
        half_life = 40 * np.exp(2.35 * self.collaterals)
        minutes = min(self.recanalised_minutes, 60 * self.mri_hours)
        return float(np.clip(1 - 0.5 ** (minutes / half_life), 0.08, 0.95))

    @property
    def low_flow_ml(self) -> float:
        """Volume of the perfusion deficit while the vessel is occluded."""
        if self.kind == "territorial":
            return max(self.core_ml / self.infarcted_fraction, self.hypoperfused_ml)
        # A branch as thin as those of emboli and lacunes leaves a deficit hardly larger than the infarct.
        return self.hypoperfused_ml if self.kind == "hypoperfusion" else self.core_ml / 0.7

    @property
    def least_flow(self) -> float:
        """Flow in the depth of the deficit relative to healthy."""
        return {
            "territorial": 0.02 + 0.2 * self.collaterals,
            "hypoperfusion": 0.3 + 0.25 * self.collaterals,
            "emboli": 0.5,
            "lacune": 0.8,
            "lesion-free": 1.0,
        }[self.kind]


def draw_patient(rng: np.random.Generator, settings: Settings, index: int) -> Patient:
    """Draws patient `index` (from 1) of a phantom; `rng` must be the patient's own."""
    bounds, mix = SIZES[settings.size], settings.mix
    head_position = rng.uniform(-30, 30, 3)
    head_scale = rng.uniform(0.92, 1.0) * rng.uniform(0.985, 1.015, 3)
    kind = _draw_kind(settings, index)
    scan = _draw_scan(rng, mix)
    arrival = rng.uniform(18, 28) if scan == "late" else rng.uniform(6, 16)
    onset = float(np.clip(rng.lognormal(np.log(180), 0.7), 30, 1440))
    return Patient(
        index=index,
        grid=_draw_grid(rng, bounds, head_position, head_scale),
        frame_times_s=_draw_frame_times(rng, bounds, scan, arrival),
        head_scale=tuple(head_scale),
        head_turn_degrees=tuple(rng.normal(0, [2, 2, 3]).clip(-6, 6)),
        head_position_mm=tuple(head_position),
        deformation=tuple(_draw_wave(rng) for _ in range(8)),
        skull_mm=rng.uniform(6.5, 8.0),
        scalp_mm=rng.uniform(4.0, 6.0),
        scan=scan,
        arrival_s=arrival,
        beta_s=rng.uniform(2.2, 3.0) if scan == "late" else rng.uniform(1.5, 2.5),
        recirculation=rng.uniform(0.10, 0.20),
        grey_peak_hu=rng.uniform(8.6, 10.4),
        flow=rng.uniform(0.75, 0.98),
        venous_delay_s=rng.uniform(2, 4),
        kind=kind,
        side="left" if rng.random() < 0.5 else "right",
        # Roughly as in stroke registries; none cerebellar, since slabs may leave the cerebellum out.
        territory=TERRITORIES[rng.choice(4, p=[0.10, 0.75, 0.15, 0.0])],
        core_ml=_draw_core_ml(rng, kind),
        emboli=1 if kind == "lacune" else int(rng.integers(1, 5)),
        onset_minutes=onset,
        recanalised_minutes=_draw_recanalisation(rng, mix, onset),
        collaterals=rng.beta(2, 2),
        hypoperfused_ml=float(rng.lognormal(np.log(200), 0.5)),
        scar_ml=float(rng.lognormal(np.log(6), 0.9)) if rng.random() < mix.old_infarct else 0.0,
        leukoaraiosis=rng.uniform(0.2, 1.0) if rng.random() < mix.leukoaraiosis else 0.0,
        blood_hu=rng.uniform(38, 46),
        bone_hu=rng.uniform(900, 1200),
        ct_offset_hu=rng.normal(0, 1),
        ct_noise_hu=rng.uniform(3, 6),
        mri_hours=onset / 60 + float(np.exp(rng.uniform(np.log(1), np.log(72)))),
        core_adc=float(np.clip(rng.normal(530, 70), 380, 680)),
        mri_gain=rng.uniform(300, 1500),
        mri_noise=rng.uniform(0.012, 0.022),
        mri_shift_mm=tuple(rng.normal(0, 0.7, 3)),
        mri_turn_degrees=tuple(rng.normal(0, 0.6, 3)),
        distortion_mm=rng.uniform(0.5, 1.5),
    )


def _draw_kind(settings: Settings, index: int) -> Kind:
    """A golden-ratio sequence spreads the kinds evenly, so that few cases already hold their shares."""
    mix = settings.mix
    position = (np.random.default_rng(settings.seed).random() + index * GOLDEN_RATIO) % 1
    shares: dict[Kind, float] = {
        "lesion-free": mix.lesion_free,
        "hypoperfusion": mix.hypoperfusion,
        "lacune": mix.lacune,
        "emboli": mix.emboli,
    }
    for kind, share in shares.items():
        if position < share:
            return kind
        position -= share
    return "territorial"


def _draw_scan(rng: np.random.Generator, mix: Mix) -> Scan:
    late, truncated = rng.random(2) < (mix.late, mix.truncated)
    return "late" if late else "truncated" if truncated else "usual"


def _draw_core_ml(rng: np.random.Generator, kind: Kind) -> float:
    territorial, small = float(rng.lognormal(np.log(15), 1.4)), float(np.exp(rng.uniform(np.log(0.1), np.log(2))))
    return {"territorial": territorial, "emboli": small, "lacune": small}.get(kind, 0.0)


def _draw_recanalisation(rng: np.random.Generator, mix: Mix, onset: float) -> float:
    early, treated = rng.random(2) < (mix.reperfused, 0.71)
    if early:
        return onset * float(rng.uniform(0.4, 0.95))
    return onset + float(rng.lognormal(np.log(90), 0.6)) if treated else float("inf")


def _draw_grid(rng: np.random.Generator, size: Size, head_position: np.ndarray, head_scale: np.ndarray) -> Grid:
    edge = rng.uniform(*size.spacing_mm)
    thickness = float(rng.choice(size.thickness_mm))
    coverage = rng.uniform(*size.coverage_mm)
    slices = int(np.clip(round(coverage / thickness), *size.slices))
    # The slab starts at the base of the temporal lobes, lower when it is long; in-plane it is centred on the head.
    middle = slices * thickness / 2 - rng.uniform(12, 20) - max(0.0, (slices * thickness - 90) / 2)
    centre = head_position + head_scale * np.array([0, -17.5, 0]) + np.array([*rng.uniform(-2, 2, 2), middle])
    orders: tuple[StorageOrder, ...] = ("LAS", "LPS", "RAS")
    tilt = rng.normal(0, [4, 2, 2]).clip(-8, 8)
    order = orders[rng.integers(3)]
    return oblique_grid((*size.plane, slices), (edge, edge, thickness), tuple(tilt), order, centre)


def _draw_frame_times(rng: np.random.Generator, size: Size, scan: Scan, arrival_s: float) -> tuple[float, ...]:
    """Every 1-2.5 s; truncated scans end 24-30 s after arrival, which is soon after the first pass."""
    frames = int(rng.integers(size.frames[0], size.frames[1] + 1))
    interval = round(rng.uniform(*size.duration_s) / frames, 2)
    if scan == "truncated":
        frames = min(frames, int(np.ceil((arrival_s + rng.uniform(24, 30)) / interval)) + 1)
    return tuple(round(i * interval, 2) for i in range(frames))


def _draw_wave(rng: np.random.Generator) -> Wave:
    direction = rng.standard_normal(3)
    direction /= np.linalg.norm(direction)
    wavelength = rng.uniform(60, 180)
    # Heads differ more over long distances than over short ones; slopes stay below 1, so nothing folds.
    amplitude = rng.normal(0, 0.5 * wavelength / 100, 3).clip(-1, 1)
    return Wave(tuple(amplitude), tuple(2 * np.pi / wavelength * direction), rng.uniform(0, 2 * np.pi))
