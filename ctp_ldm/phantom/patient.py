"""The hidden parameters of a simulated patient: everything that is drawn, drawn here and only once."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from ctp_ldm.phantom.grid import SIZES, Grid, Scan, draw_frame_times, draw_grid
from ctp_ldm.phantom.mix import Mix, SizeName
from ctp_ldm.phantom.vessels import TERRITORIES, Territory

Kind = Literal["territorial", "emboli", "lacune", "hypoperfusion", "lesion-free"]

GOLDEN_RATIO = (5**0.5 - 1) / 2

FRAILTY = 0.08
"""SD of the lethal flow between patients; calibrated."""
AT_RISK_ML, AT_RISK_SIGMA = 91.0, 0.8
"""Log-normal deficit behind a large artery. In trials of occlusions of carotid and M1 the median is about 110 mL
(EXTEND-IA, DEFUSE 3); with branches of the second order among them it is less. Calibrated."""
BRANCH_ML = {"emboli": (0.1, 2.0), "lacune": (0.08, 1.3)}
"""Infarcts of branches and perforators, log-uniform; of the latter 0.46 ± 0.29 mL (Förster et al. 2013, PMC3795042)."""
INFARCTING: dict[Kind, float] = {"territorial": 0.45, "emboli": 0.45, "lacune": 0.75}
"""Part of the deficit that infarcts at most, and behind branches always, which have few collaterals; of perforators
0.46 of 0.61 mL (Förster et al. 2013)."""
ONSET_MINUTES, ONSET_SIGMA, ONSET_RANGE = 185.0, 0.5, (45.0, 480.0)
"""Occlusion to CT: median 185 min, within 8 hours (Cereda et al. 2016). Wider than their quartiles, 180–238 min: they
chose their patients."""
EARLY_MRI_MINUTES, EARLY_MRI_SIGMA, EARLY_MRI_RANGE = 36.0, (0.54, 1.17), (5.0, 720.0)
"""CT to early MRI: median 36 min, quartiles 25 and 79 (Hakim et al. 2021), a log-normal on each side of the median."""
FOLLOW_UP_DAYS = (2.0, 9.0)
"""CT to MRI of the outcome (ISLES'24, Riedel et al. 2024)."""
TREATED = 0.71
"""Of those who are not reperfused at the time of the CT (HERMES, Goyal et al. 2016), after a median of 90 minutes."""


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
    at_risk_ml: float
    """Volume of the perfusion deficit, were it a large artery that is occluded: log-normal."""
    core_ml: float
    """Volume of infarct behind a thin branch or perforator; 0 for a large artery, where it comes of the race."""
    emboli: int
    onset_minutes: float
    """Hidden: time from occlusion to CT."""
    recanalised_minutes: float
    """Hidden: time from occlusion to reperfusion, infinite where it never comes. Before the CT the deficit is gone and
    the infarct is not; after it, the sooner it comes the more of the deficit is spared."""
    collaterals: float
    """Hidden: 0 none to 1 excellent. They set the least flow of the deficit, and so how much of it dies how fast."""
    frailty: float
    """Hidden: how far the lethal flow of this patient lies above that of others, in units of relative flow."""

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
    def large_artery(self) -> bool:
        """Whether it is a large artery that is occluded or narrowed."""
        return self.kind in ("territorial", "hypoperfusion")

    @property
    def low_flow_ml(self) -> float:
        """Volume of the perfusion deficit aimed at while the vessel is occluded."""
        known = self.core_ml / INFARCTING[self.kind] if self.core_ml else 0.0
        return max(self.at_risk_ml if self.large_artery else 0.0, known)

    @property
    def minutes_until_mri(self) -> float:
        """How long the tissue lacks blood before the MRI."""
        return min(self.recanalised_minutes, 60 * self.mri_hours)

    @property
    def minutes_until_ct(self) -> float:
        """How long the tissue lacks blood before the CT."""
        return min(self.recanalised_minutes, self.onset_minutes)


def draw_patient(rng: np.random.Generator, settings: Settings, index: int) -> Patient:
    """Draws patient `index` (from 1) of a phantom; `rng` must be the patient's own."""
    bounds, mix = SIZES[settings.size], settings.mix
    head_position = rng.uniform(-30, 30, 3)
    head_scale = rng.uniform(0.92, 1.0) * rng.uniform(0.985, 1.015, 3)
    kind = _draw_kind(settings, index)
    scan = _draw_scan(rng, mix)
    arrival = rng.uniform(18, 28) if scan == "late" else rng.uniform(6, 16)
    onset = float(np.clip(rng.lognormal(np.log(ONSET_MINUTES), ONSET_SIGMA), *ONSET_RANGE))
    return Patient(
        index=index,
        grid=draw_grid(rng, bounds, head_position, head_scale),
        frame_times_s=draw_frame_times(rng, bounds, scan, arrival),
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
        at_risk_ml=float(rng.lognormal(np.log(AT_RISK_ML), AT_RISK_SIGMA)),
        frailty=rng.normal(0, FRAILTY),
        scar_ml=float(rng.lognormal(np.log(6), 0.9)) if rng.random() < mix.old_infarct else 0.0,
        leukoaraiosis=rng.uniform(0.2, 1.0) if rng.random() < mix.leukoaraiosis else 0.0,
        blood_hu=rng.uniform(38, 46),
        bone_hu=rng.uniform(900, 1200),
        ct_offset_hu=rng.normal(0, 1),
        ct_noise_hu=rng.uniform(3, 6),
        mri_hours=onset / 60 + _draw_mri_hours(rng, mix),
        core_adc=float(np.clip(rng.normal(542, 70), 380, 700)),
        mri_gain=rng.uniform(300, 1500),
        mri_noise=rng.uniform(0.014, 0.025),
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
    position = rng.random()
    if kind not in BRANCH_ML:
        return 0.0
    low, high = np.log(BRANCH_ML[kind])
    return float(np.exp(low + position * (high - low)))


def _draw_recanalisation(rng: np.random.Generator, mix: Mix, onset: float) -> float:
    early, treated = rng.random(2) < (mix.reperfused, TREATED)
    if early:
        return onset * float(rng.uniform(0.4, 0.95))
    return onset + float(rng.lognormal(np.log(90), 0.6)) if treated else float("inf")


def _draw_mri_hours(rng: np.random.Generator, mix: Mix) -> float:
    """Time from CT to MRI."""
    side, position = rng.standard_normal(), rng.random()
    if mix.mri == "follow-up":
        return 24 * float(FOLLOW_UP_DAYS[0] + position * (FOLLOW_UP_DAYS[1] - FOLLOW_UP_DAYS[0]))
    return float(np.clip(EARLY_MRI_MINUTES * np.exp(side * EARLY_MRI_SIGMA[int(side > 0)]), *EARLY_MRI_RANGE)) / 60


def _draw_wave(rng: np.random.Generator) -> Wave:
    direction = rng.standard_normal(3)
    direction /= np.linalg.norm(direction)
    wavelength = rng.uniform(60, 180)
    # Heads differ more over long distances than over short ones; slopes stay below 1, so nothing folds.
    amplitude = rng.normal(0, 0.5 * wavelength / 100, 3).clip(-1, 1)
    return Wave(tuple(amplitude), tuple(2 * np.pi / wavelength * direction), rng.uniform(0, 2 * np.pi))
