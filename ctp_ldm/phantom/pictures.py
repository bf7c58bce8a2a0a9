"""Figures of a phantom: curves and calibration, and cases as a reader sees them."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ctp_ldm.phantom import ct
from ctp_ldm.phantom.haemodynamics import patient_bolus
from ctp_ldm.phantom.mri import Diffusion
from ctp_ldm.phantom.regions import INFARCTABLE
from ctp_ldm.phantom.simulate import Computed, Truth
from ctp_ldm.phantom.targets import TARGETS

LOW_FLOW = 0.5  # in whose largest area a patient without infarct is shown
LEAST_SHOWN_ML = 0.1  # of a logarithmic axis


def draw_calibration(patients: Sequence[dict[str, Any]], found: dict[str, float], truth: Truth) -> Figure:
    """Curves of one patient, infarcts beside what rCBF < 38 % says of them, and each figure between its limits."""
    figure = Figure(figsize=(15, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    curves, volumes, limits = figure.subplots(1, 3, width_ratios=[1.1, 1, 1.7])
    _draw_curves(curves, truth)
    low, label = ([max(p[key], LEAST_SHOWN_ML) for p in patients] for key in ("low_ml", "label_ml"))
    volumes.plot([LEAST_SHOWN_ML, 500], [LEAST_SHOWN_ML, 500], color="#999999", lw=0.8)
    volumes.plot(label, low, "o", ms=3, alpha=0.6, color="#4c72b0")
    volumes.set(xscale="log", yscale="log", aspect="equal", xlabel="infarct on MRI, mL", ylabel="rCBF < 38 % on CT, mL")
    volumes.set_title(f"{len(patients)} strokes of large arteries")
    shown = [target for target in reversed(TARGETS) if not target.why]
    for row, target in enumerate(shown):
        position = (found[target.key] - target.low) / (target.high - target.low)
        limits.plot(np.clip(position, -0.3, 1.3), row, "o", color="#2a7f3f" if 0 <= position <= 1 else "#c0392b")
    limits.set_yticks(range(len(shown)), [target.name for target in shown], fontsize=7)
    limits.axvspan(0, 1, color="#2a7f3f", alpha=0.12)
    limits.set(xlim=(-0.35, 1.35), xticks=[0, 1], xticklabels=["lowest", "highest"], title="calibration")
    return figure


def png_bytes(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _draw_curves(axis: Any, truth: Truth) -> None:
    head, lesion, times = truth.head, truth.lesion, truth.patient.frame_times_s
    healthy = (lesion.relative_flow > 0.98) & (truth.chronic.flow > 0.98)
    low = lesion.relative_flow < 0.4
    regions = {
        "grey matter": healthy & (head.grey > 0.9),
        "white matter": healthy & (head.white > 0.9),
        "low flow, not infarcted": low & (lesion.core < 0.1) & (head.tissue > 0.8),
        "core": (lesion.core > 0.8) & (head.tissue > 0.8),
    }
    frames = [frame.copy() for frame in ct.enhancement(truth.patient, head, truth.flow, patient_bolus(truth.patient))]
    for name, mask in regions.items():
        if mask.any():
            axis.plot(times, [frame[mask].mean() for frame in frames], label=name)
    for name, vessel in (("arteries / 20", head.artery), ("veins / 20", head.vein)):
        if (vessel > 0.5).any():
            axis.plot(times, [frame[vessel > 0.5].mean() / 20 for frame in frames], "--", lw=1, label=name)
    axis.set(xlabel="s", ylabel="enhancement, HU", title=f"{truth.patient.kind}, without noise")
    axis.legend(fontsize=7)


def draw_cases(cases: Sequence[tuple[Truth, Computed, Diffusion]]) -> Figure:
    """A row for each case, at the slice of the largest infarct, else of most low flow, with the label's outline."""
    figure = Figure(figsize=(12, 1.85 * len(cases)), layout="constrained", facecolor="black")
    FigureCanvasAgg(figure)
    for axes, (truth, computed, diffusion) in zip(figure.subplots(len(cases), 7, squeeze=False), cases, strict=True):
        _draw_case(axes, truth, computed, diffusion)
    return figure


def _draw_case(axes: Any, truth: Truth, computed: Computed, diffusion: Diffusion) -> None:
    deficit = (truth.lesion.occluded_flow < LOW_FLOW) & (truth.head.tissue > INFARCTABLE)
    areas = next(
        (m.sum(axis=(0, 1)) for m in (diffusion.label, deficit) if m.any()), np.zeros(diffusion.label.shape[2])
    )
    z = int(areas.argmax()) if areas.any() else len(areas) // 2
    times = np.array(truth.patient.frame_times_s)
    peak = int(np.abs(times - truth.patient.arrival_s - 8).argmin())
    healthy = float(np.median(diffusion.dwi[(truth.head.tissue > 0.9) & ~diffusion.label]))
    panels: list[tuple[str, np.ndarray, str, float, float]] = [
        ("NCCT 0–80 HU", computed.unenhanced, "gray", 0, 80),
        (f"CTP at {times[peak]:.0f} s", computed.series[..., peak], "gray", 0, 120),
        ("CBF 0–80", computed.maps.cbf, "jet", 0, 80),
        ("Tmax 0–12 s", computed.maps.tmax, "jet", 0, 12),
        ("true CBF 0–80", truth.flow.cbf, "jet", 0, 80),
        ("DWI", diffusion.dwi, "gray", 0, 2.2 * healthy),
        ("ADC 0–2000", diffusion.adc, "gray", 0, 2000),
    ]
    order = np.sign(np.diag(truth.patient.grid.affine)[:2])
    for axis, (title, image, colours, low, high) in zip(axes, panels, strict=True):
        # Radiological: the patient's right on the left, the nose up.
        turned = [a[:, :, z][:: -int(order[0]), :: int(order[1])].T for a in (image, diffusion.label)]
        axis.imshow(turned[0], cmap=colours, vmin=low, vmax=high, origin="lower", interpolation="nearest")
        if turned[1].any():
            axis.contour(turned[1], levels=[0.5], colors="#39ff14", linewidths=0.6)
        axis.set_title(title, fontsize=7, color="white")
        axis.set(xticks=[], yticks=[])
    axes[0].set_ylabel(f"{truth.patient.name}\n{truth.patient.kind}", fontsize=6, color="white")
