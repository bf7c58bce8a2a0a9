"""What is found at every cut-off, and which one was used."""

import math

from ctp_ldm.report.curves import AT_ML, READING, curve_rows, read_curves, shown_to
from ctp_ldm.report.figures.plot import Figure, Plot
from ctp_ldm.report.figures.scale import linear, volume
from ctp_ldm.report.study import Study


def curves(study: Study) -> Figure | None:
    """One panel with a line and a band for each arm; None where no run has a curve."""
    found, lacking = read_curves(study.arms)
    if not found:
        return None
    end = shown_to(found)
    x, y = volume([end / 1.08]), linear([0.0, 1.0], margin=0.02)
    plot = Plot("Operating curves", x, y, "false lesion volume, mean, mL", "share of lesion volume found, mean")
    plot.line((AT_ML, AT_ML), (0, 1), "zero")
    for number, arm in enumerate(study.arms):
        if arm.name not in found:
            continue
        one = found[arm.name]
        at_ml, mean, low, high = (values.tolist() for values in one.drawn(end))
        if not any(math.isnan(v) for v in (*low, *high)):
            plot.ribbon([*zip(at_ml, low, strict=True)], [*zip(at_ml, high, strict=True)], number)
        plot.path([*zip(at_ml, mean, strict=True)], "path thick", number)
        false, share = one.used
        if not math.isnan(false):
            plot.point(false, share, number, f"{arm.name}: {share:.3f} found at {false:.1f} mL false", kind="mean")
    _, *rows = curve_rows(found)
    numbers = "; ".join(f"{row[0]}: area {row[1]}, {row[3]} found at {AT_ML:g} mL" for row in rows)
    caption = " ".join([READING, f"{numbers}.", *lacking, "Distances along the volume are those of square roots."])
    return Figure("curves", "Operating curves", caption, [plot], downstream=True)
