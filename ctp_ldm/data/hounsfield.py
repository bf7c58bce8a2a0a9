"""What was added to HU in a CT file: told by its air and its tissue together, refused where these do not decide."""

import re
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d

from ctp_ldm.data.faults import DataFault, UnknownUnit
from ctp_ldm.data.units import AUTO
from ctp_ldm.data.volumes import Volume
from ctp_ldm.data.window import cut_off_at

OFFSETS = (0, 1000, 1010, 1024)
"""What files hold: HU, or what converters and toolkits add so that no value is negative."""
BACKGROUNDS = (0, -1000, -1024, -2048, -3024, -8192)
"""HU, as far as they are HU, of what lies outside of the field of view or of a stripped brain."""
AIR_HU, TISSUE_HU = -1000.0, 32.0
AIR_SD, TISSUE_SD = 4.0, 5.0
"""By how much the air and the tissue of heads differ."""
AIR_WITHIN, TISSUE_WITHIN = 15.0, 17.0
LEAST_SHARE = 0.03
MUCH_BONE = 0.25
"""Of the soft tissue; less of a skull is as much denser as tissue is than air."""
LEAST_LEAD = 5.0
"""By which squared distance the next best offset must be worse: e^2.5, twelve times less likely."""
STEP, SMOOTH = 1.0, 2.5
GREYS = 255.0
"""The highest of pictures of 8 bits."""
CUT_OFF, NOISY_AIR = 0.05, 100.0
_STATED = re.compile(r"HU(?:\+(\d+))?")


class _Peaks(NamedTuple):
    """Of a file, in its own values.

    tissue: the median of soft tissue.
    air: of air; None where the outside is one value throughout, or there is none.
    outside: the one value of what lies outside, None where it is noisy.
    """

    tissue: float
    air: float | None
    outside: float | None


def to_hounsfield(volume: Volume, stated: str = AUTO) -> Volume:
    """CT in HU, from files that hold HU or HU + 1000, 1010 or 1024.

    In heads soft tissue is at 32 ± 5 HU, a thousand above air (−1000 ± 4 HU). An offset must bring both
    there, and no other one may bring them nearly as close. Where the outside is one value (a stripped brain, or air
    that was cut off) it decides as far as it is a usual background in HU; where it was set afterwards tissue alone has
    to decide, and often cannot. Values change in place.

    Args:
        volume: (X, Y, Z) or (X, Y, Z, T), whose first frame is looked at.
        stated: "auto", "HU", or "HU+<offset>" such as "HU+1024", which is believed unless air and tissue contradict.

    Returns:
        The volume in HU, with the file's unit.

    Raises:
        UnknownUnit: the values fit no offset, or several.
        DataFault: the stated unit is none, or contradicted; the values are grey values of 8 bits.
    """
    known = _STATED.fullmatch(stated)
    if stated != AUTO and known is None:
        raise DataFault(f"{volume.path}: unit {stated!r} is unknown; expected auto, HU or HU+1024")
    offset = int(known[1] or 0) if known else _offset(volume)
    if known:
        _require_no_contradiction(volume, offset)
    if offset:
        # In place: a second copy of a series would be as much memory again.
        np.subtract(volume.values, np.float32(offset), out=volume.values)
    return replace(volume, unit=_name(offset))


def _name(offset: int) -> str:
    return f"HU+{offset}" if offset else "HU"


def _offset(volume: Volume) -> int:
    frame = _first(volume)
    if frame.min() == 0 and cut_off_at(frame) == GREYS:
        # No unknown unit, which the other files of the data set could tell.
        raise DataFault(
            f"{volume.path} is cut off at 0 and at {GREYS:.0f}: grey values of an export through a window; expected "
            "HU: export the CT without window, or state HU with data.units where they are"
        )
    candidates, scores = _fitting(frame)
    if not scores:
        low, middle, high = np.percentile(frame, [1, 50, 99])
        seen = "".join(f"; tissue seems to be at {p.tissue:.0f}{_air_of(p)}" for p in candidates[:1])
        raise UnknownUnit(
            f"{volume.path} has values of {low:.4g} / {middle:.4g} / {high:.4g} (1, 50, 99 %), in which neither air "
            f"nor brain is seen in HU or HU + 1000, 1010 or 1024{seen}; check that it is a CT, or state its unit with "
            "data.units"
        )
    best = min(scores, key=lambda offset: scores[offset])
    close = [o for o, score in scores.items() if score - scores[best] < LEAST_LEAD]
    if len(close) > 1:
        peaks = candidates[-1]
        raise UnknownUnit(
            f"{volume.path} has its tissue at {peaks.tissue:.0f}{_air_of(peaks)}, which fits "
            f"{' and '.join(map(_name, sorted(close)))}; state which with data.units"
        )
    return best


def _require_no_contradiction(volume: Volume, offset: int) -> None:
    """A stated offset is believed where the file says nothing, or nothing else."""
    candidates, scores = _fitting(_first(volume))
    if scores and offset in OFFSETS and offset not in scores:
        peaks = candidates[-1]
        raise DataFault(
            f"{volume.path} has its tissue at {peaks.tissue:.0f}{_air_of(peaks)}, which fits "
            f"{' and '.join(map(_name, sorted(scores)))}; expected {_name(offset)}, as data.units or the other cases "
            "have it: state its own unit, or leave the case out"
        )


def _first(volume: Volume) -> np.ndarray:
    """(X, Y, Z) the first frame, without the slices of one value."""
    frame = volume.values if volume.values.ndim == 3 else volume.values[..., 0]
    # What a slab is filled up with on the grid of a larger scan was set by whoever did so, in any unit.
    scanned = frame.max(axis=(0, 1)) > frame.min(axis=(0, 1))
    return frame[:, :, scanned] if scanned.any() else frame


def _fitting(frame: np.ndarray) -> tuple[list[_Peaks], dict[int, float]]:
    """The peaks of a file, and the offsets that they fit, with their squared distance from where they should be."""
    candidates = [peaks for offset in (0, 1000) if (peaks := _peaks(frame, offset)) is not None]
    return candidates, {offset: score for peaks in candidates for offset, score in _scores(peaks).items()}


def _air_of(peaks: _Peaks) -> str:
    if peaks.air is not None:
        return f" and air at {peaks.air:.0f}"
    return "" if peaks.outside is None else f" and a background of {peaks.outside:g}"


def _peaks(frame: np.ndarray, about: int) -> _Peaks | None:
    """The peaks of tissue and air of a file that holds HU + about `about`; None where it does not look like one.

    Args:
        frame: (X, Y, Z).
        about: 0 or 1000.
    """
    outside = _one_value(frame)
    inside = frame if outside is None else frame[frame != outside]
    top = cut_off_at(frame)
    inside = inside if top is None else inside[inside < top]

    def between(low: float, high: float) -> np.ndarray:
        return inside[(inside > low) & (inside < high)]

    tissue = between(about - 20, about + 110)
    if tissue.size < LEAST_SHARE * frame.size:
        return None
    level = _mode(tissue)
    tissue = between(level - 20, level + 25)
    level = float(np.median(tissue))
    air = between(level - 1150, level - 900)
    seen = air.size >= LEAST_SHARE * frame.size
    # A second tissue above this one, which is no skull: this one is air. A second air below: this tissue is bone.
    if not seen and between(level + 900, level + 1150).size > MUCH_BONE * tissue.size:
        return None
    if about and between(level - 2150, level - 1900).size >= LEAST_SHARE * frame.size:
        return None
    return _Peaks(level, _level_of_air(air, float(frame.min())) if seen else None, outside)


def _scores(peaks: _Peaks) -> dict[int, float]:
    """Offset → squared distance of tissue and air from where they should be, of those that are possible at all."""
    possible: tuple[int, ...] = OFFSETS
    air, outside = peaks.air, peaks.outside
    # What was set after the offset was added, or lies beside noisy air, says nothing.
    if air is None and outside is not None and outside not in BACKGROUNDS:
        possible = tuple(o for o in OFFSETS if outside - o in BACKGROUNDS)
        if not possible and -1150 < outside - peaks.tissue < -900:
            possible, air = OFFSETS, outside
        elif not possible:
            possible = (0,)
    scores = {}
    for offset in possible:
        tissue_off = peaks.tissue - offset - TISSUE_HU
        air_off = 0.0 if air is None else air - offset - AIR_HU
        if abs(tissue_off) <= TISSUE_WITHIN and abs(air_off) <= AIR_WITHIN:
            scores[offset] = (tissue_off / TISSUE_SD) ** 2 + (air_off / AIR_SD) ** 2
    return scores


def _one_value(frame: np.ndarray) -> float | None:
    """What nearly all of the corner columns and a tenth of all voxels hold exactly; cut-off noise does not."""
    corners = frame[:: frame.shape[0] - 1, :: frame.shape[1] - 1].ravel()
    values, counts = np.unique(corners, return_counts=True)
    value = float(values[counts.argmax()])
    return value if counts.max() >= 0.8 * corners.size and float((frame == value).mean()) >= 0.1 else None


def _level_of_air(values: np.ndarray, lowest: float) -> float:
    """The most frequent value, or the median of air whose lower half was cut off, which the cut does not move.

    Args:
        values: (N,), of air and of what is little denser.
        lowest: value of the whole file.
    """
    if (values == lowest).mean() < CUT_OFF:
        return _mode(values)
    return float(np.median(values[values < lowest + NOISY_AIR]))


def _mode(values: np.ndarray) -> float:
    """The most frequent value, after smoothing by 2.5 HU, mirrored at the ends where values may be cut off."""
    counts, edges = np.histogram(values, np.arange(values.min(), values.max() + 2 * STEP, STEP))
    smooth = gaussian_filter1d(counts.astype(float), SMOOTH / STEP, mode="reflect")
    return float(edges[smooth.argmax()] + (STEP / 2 if (values != np.rint(values)).any() else 0.0))
