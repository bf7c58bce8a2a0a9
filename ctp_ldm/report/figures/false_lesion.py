"""Volume that was found where the reference has no lesion."""

import math

from ctp_ldm.metrics import bootstrap_mean
from ctp_ldm.report import wording
from ctp_ldm.report.figures.plot import Figure, Plot
from ctp_ldm.report.figures.scale import categories, volume
from ctp_ldm.report.study import Study

PARTS = {
    "false_ml": "anywhere\n",
    "false_near_ml": "within\n10 mm",
    "false_far_ml": "beyond\n10 mm",
    "false_mirror_ml": "mirror\nregion",
    "false_penumbra_ml": "penumbra\n",
    "false_free_ml": "lesion-free\npatients",
}
GOLDEN = (math.sqrt(5) - 1) / 2


def false_lesion(study: Study) -> Figure | None:
    """A panel for each arm, all with the same axes; None without a segmenter."""
    present = [c for c in PARTS if any(c in a.patients and a.patients[c].notna().any() for a in study.arms)]
    if "false_ml" not in present:
        return None
    y = volume(v for a in study.arms for c in present if c in a.patients for v in a.patients[c])
    caption = (
        "Each dot is a patient, of several trainings the patient's mean; the bar is the mean with its 95 % bootstrap "
        "interval over patients alone. Mirror region and penumbra may overlap with the other parts. Vertical distances "
        "are those of square roots."
    )
    plots = []
    for number, arm in enumerate(study.arms):
        if "false_ml" not in arm.patients:
            continue
        counts = [int(arm.patients[c].notna().sum()) if c in arm.patients else 0 for c in present]
        means = [bootstrap_mean(arm.patients[c].tolist() if counts[i] else []) for i, c in enumerate(present)]
        names = [
            f"{PARTS[c]}\nmean {wording.value(mean.mean, 1)}\nn = {mean.patients}"
            for c, mean in zip(present, means, strict=True)
        ]
        plot = Plot(arm.name, categories(names), y, "", "found outside the reference, mL", height=320, bottom=68)
        for i, column in enumerate(present):
            if not counts[i]:
                continue
            values = arm.patients[column].dropna()
            for j, (case, value) in enumerate(values.items()):
                # Spread evenly without chance: the same report twice is the same picture.
                aside = 0.56 * ((j * GOLDEN) % 1 - 0.5)
                plot.point(i + aside, value, number, f"{case}: {value:.2f} mL", str(case), "point strip")
            mean = means[i]
            if math.isfinite(mean.low):
                plot.line((i, i), (mean.low, mean.high), "whisker ink")
            plot.line((i - 0.32, i + 0.32), (mean.mean,) * 2, "bar")
        plots.append(plot)
    return Figure("false-lesion", "False lesion volume", caption, plots, legend=False, downstream=True)
