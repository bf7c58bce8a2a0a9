"""Indicator-dilution theory: how contrast passes through arteries, tissue and veins.

    dHU(t) = kappa * CBF * (AIF (x) R)(t - delay)        R(t) = exp(-t / MTT)        MTT = CBV / CBF

after Fieselmann et al., *Deconvolution-Based CT and MR Brain Perfusion Measurement*, Int J Biomed Imaging 2011.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import map_coordinates
from scipy.signal import fftconvolve

from ctp_ldm.phantom.anatomy import Head
from ctp_ldm.phantom.grid import Float
from ctp_ldm.phantom.patient import Patient

BRAIN_DENSITY = 1.05  # g/mL
LARGE_VESSEL_OVER_CAPILLARY = 0.73  # k_H: plasma, which carries the contrast, is a larger part of capillary blood
KAPPA = BRAIN_DENSITY / (6000 * LARGE_VESSEL_OVER_CAPILLARY)  # 1/s per mL/100 g/min

GREY_CBF, WHITE_CBF = 60.0, 25.0  # mL/100 g/min
GREY_CBV, WHITE_CBV = 4.0, 2.0  # mL/100 g

ALPHA = 3.0
STEP_S = 0.1
MTT_RANGE_S = (1.0, 60.0)


@dataclass(frozen=True)
class ArterialInput:
    """Enhancement of a large artery: a gamma variate of height `peak_hu`, and its recirculation.

    The second pass comes later, twice as broad, and holds `recirculation` times the area of the first.
    """

    arrival_s: float
    beta_s: float
    peak_hu: float
    recirculation: float
    recirculation_delay_s: float = 9.0

    def __call__(self, t: ArrayLike) -> NDArray[np.float64]:
        """Enhancement in HU at times `t` in s, of any shape."""
        t = np.asarray(t, dtype=np.float64)
        first = _gamma_variate(t - self.arrival_s, self.beta_s)
        second = _gamma_variate(t - self.arrival_s - self.recirculation_delay_s, 2 * self.beta_s)
        return self.peak_hu * (first + self.recirculation / 2 * second)


def _gamma_variate(t: NDArray[np.float64], beta: float) -> NDArray[np.float64]:
    """Gamma variate of height 1 at t = alpha * beta."""
    t = np.clip(t, 0, None) / (ALPHA * beta)
    return t**ALPHA * np.exp(ALPHA * (1 - t))


class Bolus:
    """(AIF (x) R)(t) in HU s, tabulated over time and mean transit time so that every voxel is a look-up."""

    def __init__(self, aif: ArterialInput, duration_s: float) -> None:
        self.aif = aif
        t = np.arange(0, duration_s + STEP_S, STEP_S)
        self._log_mtt = np.linspace(np.log(MTT_RANGE_S[0]), np.log(MTT_RANGE_S[1]), 64)
        residue = np.exp(-t / np.exp(self._log_mtt)[:, None])
        # Trapezoidal rule: the residue's first sample counts half, and the AIF starts at 0.
        arterial = aif(t)
        whole = fftconvolve(residue, arterial[None], axes=1)[:, : t.size]
        self._table = (STEP_S * (whole - arterial / 2)).astype(np.float32)

    def __call__(self, t: ArrayLike, mtt: ArrayLike) -> Float:
        """The convolution in HU s at times `t` (s) for mean transit times `mtt` (s, 1-60), broadcast together."""
        row = (np.log(np.asarray(mtt)) - self._log_mtt[0]) / (self._log_mtt[1] - self._log_mtt[0])
        column = np.asarray(t) / STEP_S
        coordinates = np.stack(np.broadcast_arrays(row, column)).astype(np.float32)
        values = map_coordinates(self._table, coordinates.reshape(2, -1), order=1, mode="nearest")
        return values.reshape(coordinates.shape[1:])


def tissue_curve(bolus: Bolus, t: ArrayLike, cbf: ArrayLike, mtt: ArrayLike, delay: ArrayLike) -> Float:
    """Enhancement of tissue in HU; all arguments broadcast.

    Args:
        bolus: the arterial input, ready for look-up.
        t: time in s.
        cbf: blood flow in mL/100 g/min.
        mtt: mean transit time in s.
        delay: lag of the tissue's arterial supply behind the arterial input, s.
    """
    return np.float32(KAPPA) * np.asarray(cbf, np.float32) * bolus(np.asarray(t) - delay, mtt)


def patient_bolus(patient: Patient) -> Bolus:
    """The patient's bolus, its dose set such that healthy grey matter peaks at `patient.grey_peak_hu`."""
    duration = patient.frame_times_s[-1] + 30
    shape = {"arrival_s": patient.arrival_s, "beta_s": patient.beta_s, "recirculation": patient.recirculation}
    unit = Bolus(ArterialInput(peak_hu=1.0, **shape), duration)
    t = np.arange(0, duration, STEP_S)
    grey = tissue_curve(unit, t, patient.flow * GREY_CBF, 60 * GREY_CBV / GREY_CBF, 0.0)
    return Bolus(ArterialInput(peak_hu=patient.grey_peak_hu / float(grey.max()), **shape), duration)


class Perfusion(NamedTuple):
    """Maps (X, Y, Z): CBF in mL/100 g/min, CBV in mL/100 g, delay in s, and flow relative to healthy, 0 to 1."""

    cbf: Float
    cbv: Float
    delay: Float
    relative_flow: Float

    @property
    def mtt(self) -> Float:
        """Mean transit time in s, by the central volume theorem; kept within the tabulated range."""
        return np.clip(60 * self.cbv / np.maximum(self.cbf, 1e-3), *MTT_RANGE_S)


def perfusion(
    rng: np.random.Generator, patient: Patient, head: Head, relative_flow: Float, chronic_flow: Float
) -> Perfusion:
    """Healthy perfusion of the head with mild natural variation, changed by acute and by old damage.

    Args:
        rng: of the patient's circulation.
        patient, head: whose.
        relative_flow: (X, Y, Z) flow at the time of the CT relative to healthy: below 1, blood comes late and slowly.
        chronic_flow: (X, Y, Z) the same of old damage, where there are fewer vessels: transit times stay as they are.
    """
    grid = patient.grid
    variation = np.exp(0.08 * grid.smooth_noise(rng, 10.0))
    cbf = patient.flow * (GREY_CBF * head.grey + WHITE_CBF * head.white) * variation
    cbv = patient.flow * (GREY_CBV * head.grey + WHITE_CBV * head.white) * variation
    delay = np.clip(0.8 + 0.4 * grid.smooth_noise(rng, 15.0), 0, None)
    # Good collaterals are long detours. Perforators have none: what blood they get is not late, and a lacune
    # is seen less often in Tmax (25 %) than in CBF (44 %) or MTT (56 %; PMID 26899357).
    slow = 2.0 if patient.kind == "lacune" else 6.0 + 4.0 * patient.collaterals
    return Perfusion(
        cbf=cbf * relative_flow * chronic_flow,
        cbv=cbv * relative_volume(np.minimum(relative_flow, 1)) * chronic_flow,
        delay=delay + slow * np.clip(1 - relative_flow, 0, 1),
        relative_flow=relative_flow,
    )


def relative_volume(relative_flow: Float) -> Float:
    """Blood volume relative to healthy: vessels dilate at moderately low flow (up to 15 % more) and collapse below it.

    The two regimes of Astrup's thresholds: autoregulated oligaemia and penumbra, then failure below a third of flow.
    """
    dilated = 1 + 0.6 * relative_flow * (1 - relative_flow)
    collapse = 1 / (1 + np.exp((relative_flow - 0.22) / 0.06))
    return dilated * (1 - 0.65 * collapse)
