"""One patient's images: what a page of the viewer shows, and the levels that it shows it with."""

import json
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ctp_ldm.display.sources import title
from ctp_ldm.display.windows import PRESETS, TOO_HIGH, TOO_LOW, ZERO, Tone
from ctp_ldm.metrics import PatientVolumes, VolumesError
from ctp_ldm.paths import without_place
from ctp_ldm.report.arms import Arm
from ctp_ldm.report.contours import outlines
from ctp_ldm.report.folder import ReportFolder
from ctp_ldm.report.levels import Frame, error, frame_of, grey, packed
from ctp_ldm.report.study import Study
from ctp_ldm.report.wording import number

KINDS = {
    "reference": "reference lesion",
    "found": "lesion that the segmenter finds on this image",
    "penumbra": "penumbra, Tmax > 6 s",
}
"""Outlines that can be switched."""


class NoImages(ValueError):
    """A patient of whom no run has images to show."""


@dataclass(frozen=True)
class Images:
    """Volumes of one patient: `first` for what all arms share, `by_arm` for what they made, `faults` of other arms."""

    first: PatientVolumes
    by_arm: dict[str, PatientVolumes]
    faults: dict[str, str]


@dataclass(frozen=True)
class Pane:
    """One picture of a page.

    title: above it.
    image: name of its levels; None where there is no image, which `message` then explains.
    low, high: values of the first level and of the last, in `unit`.
    signed: whether colours tell the sign, as of errors.
    decimals: of its values.
    tone: number of its grey windows; None where grey or colours go from low to high.
    scale: labels of these ends, where there is no window.
    masks: (name, kind) of the outlines drawn on it.
    """

    title: str
    image: str | None = None
    low: float = 0.0
    high: float = 1.0
    unit: str = ""
    signed: bool = False
    decimals: int = 1
    tone: int | None = None
    scale: tuple[str, str] | None = None
    masks: tuple[tuple[str, str], ...] = ()
    message: str = ""


@dataclass
class CasePage:
    """What a page needs to know.

    case, frame, spacing: of the patient.
    rows: heading → panes.
    windows: preset → its ends in each channel, in words.
    tones: for each channel its title, unit, ends and windows.
    masks: name → plane → path of each slice.
    start: slice to show first, of each plane.
    notices: what is missing.
    """

    case: str
    frame: Frame
    spacing: tuple[float, float, float]
    start: dict[str, int] = field(default_factory=dict)
    rows: dict[str, list[Pane]] = field(default_factory=dict)
    windows: dict[str, str] = field(default_factory=dict)
    tones: list[dict[str, Any]] = field(default_factory=list)
    masks: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)

    @property
    def shape(self) -> tuple[float, float]:
        """(width, height) of an axial slice in mm."""
        width, height = self.frame.size
        return width * self.spacing[1], height * self.spacing[2]

    @property
    def kinds(self) -> dict[str, str]:
        """Outlines that this page has."""
        present = {kind for panes in self.rows.values() for pane in panes for _, kind in pane.masks}
        return {kind: title for kind, title in KINDS.items() if kind in present}

    @property
    def data(self) -> dict[str, Any]:
        """Plain data for the page's script."""
        width, height = self.frame.size
        drawn = ("image", "low", "high", "unit", "signed", "decimals", "tone")
        panes = [pane for panes in self.rows.values() for pane in panes if pane.image is not None]
        return {
            "size": [self.frame.count, height, width],
            "spacing": [self.spacing[0], self.spacing[2], self.spacing[1]],
            "first": self.frame.slices[0],
            "planes": list(self.frame.planes),
            "start": self.start,
            "panes": [{key: getattr(pane, key) for key in drawn} for pane in panes],
            "colours": [TOO_LOW, ZERO, TOO_HIGH],
            "presets": list(PRESETS),
            "kinds": list(KINDS),
            "tones": self.tones,
            "masks": self.masks,
        }


def read_images(study: Study, case: str) -> Images:
    """Volumes of every arm that has them, each of its first seed that does.

    Raises:
        NoImages: none has.
    """
    found: dict[str, PatientVolumes] = {}
    faults: dict[str, str] = {}
    for arm in study.arms:
        try:
            volumes = _of_arm(arm, case)
            for other in found.values():
                _require_alike(other, volumes)
            found[arm.name] = volumes
        except VolumesError as fault:
            faults[arm.name] = str(fault)
    if not found:
        raise NoImages("; ".join(dict.fromkeys(faults.values())))
    # Rivals that make no images have no real ones either.
    return Images(max(found.values(), key=lambda volumes: len(volumes.targets)), found, faults)


def has_images(study: Study, case: str) -> bool:
    """Whether any run has a file of this patient's volumes."""
    return any(run.has_volumes(case) for arm in study.arms for run in arm.runs)


def draw_case(study: Study, images: Images, place: str, folder: ReportFolder) -> CasePage:
    """Write a patient's images and say how a page shows them.

    Args:
        study: names of arms and targets.
        images: of the patient.
        place: of the file inside the report, without its ending, such as cases/007.
        folder: of the report.
    """
    first = images.first
    frame = frame_of(first.brain)
    page = CasePage(first.case, frame, first.spacing, _start(images, frame))
    page.notices += [f"{arm}: {fault}" for arm, fault in images.faults.items()]
    page.masks = {name: outlines(mask, frame) for name, mask in _masks(study, images).items()}
    sheet = _Sheet(study, images, page)
    if first.source is not None and first.sources:
        page.rows["Source"] = sheet.source_row()
    for i, (target, unit) in enumerate(zip(first.targets, first.units, strict=True)):
        page.rows[f"{study.title(target)}, {unit}"] = sheet.target_row(i)
    folder.write(f"{place}.js", f"const ctpImages = {json.dumps(sheet.levels, indent=0)};\n")
    return page


@dataclass(frozen=True)
class _Sheet:
    """Draws rows of panes; `levels` gathers name → levels of their images."""

    study: Study
    images: Images
    page: CasePage
    levels: dict[str, str] = field(default_factory=dict)

    def source_row(self) -> list[Pane]:
        first, panes = self.images.first, []
        assert first.source is not None
        for k, name in enumerate(first.sources):
            shades = self.study.tone(name, "", first.source[:, k][first.brain])
            channel = self.study.channels.get(name)
            unit = channel.scaling.unit if channel else ""
            tone = self._tone(title(name), unit, shades)
            pane = self._grey(title(name), f"source-{k}", first.source[:, k], unit, shades)
            panes.append(replace(pane, tone=tone, masks=self._masks()))
        # What a rival finds without an image is shown on the last of them.
        last = panes[-1]
        for j, arm in enumerate(self.study.arms):
            if not self.images.by_arm.get(arm.name, first).targets:
                panes.append(replace(last, title=f"{arm.name}: lesion found", masks=self._masks(f"arm-{j}")))
        return panes

    def target_row(self, i: int) -> list[Pane]:
        first = self.images.first
        real, target, unit = first.real[:, i], first.targets[i], first.units[i]
        shades = self.study.tone(target, unit, real[first.brain])
        tone = self._tone(self.study.title(target), unit, shades)
        panes = [replace(self._grey("real", f"{i}-real", real, unit, shades), tone=tone, masks=self._masks("real"))]
        for j, arm in enumerate(self.study.arms):
            if not arm.makes_images:
                continue
            if arm.name not in self.images.by_arm:
                panes.append(Pane(f"{arm.name}: synthetic", message="no image of this run, see below"))
                continue
            volumes, masks, name = self.images.by_arm[arm.name], self._masks(f"arm-{j}"), f"{i}-arm-{j}"
            pane = self._grey(f"{arm.name}: synthetic", name, volumes.synthetic[:, i], unit, shades)
            panes.append(replace(pane, tone=tone, masks=masks))
            difference = self._error(f"{arm.name}: error", name, volumes.synthetic[:, i] - real, unit, shades)
            panes.append(replace(difference, masks=masks))
            if volumes.deviation is not None:
                scale = ("0", f"{number(shades.error, shades.decimals)} {unit}")
                alike = replace(shades, low=0, high=shades.error)
                heading, label = f"{arm.name}: SD of samples", f"{name}-deviation"
                pane = self._grey(heading, label, volumes.deviation[:, i], unit, alike)
                panes.append(replace(pane, scale=scale, masks=masks))
        return panes

    def _masks(self, found: str = "") -> tuple[tuple[str, str], ...]:
        named = (("reference", "reference"), (found, "found"), ("penumbra", "penumbra"))
        return tuple((name, kind) for name, kind in named if name in self.page.masks)

    def _tone(self, title: str, unit: str, shades: Tone) -> int:
        ends = {"low": shades.low, "high": shades.high, "decimals": shades.decimals}
        self.page.tones.append({"title": title, "unit": unit, **ends, "windows": dict(shades.windows)})
        for preset in PRESETS:
            low, high = (number(end, shades.decimals) for end in shades.windows[preset])
            self.page.windows[preset] = "; ".join(
                filter(None, [self.page.windows.get(preset), f"{title} {low} to {high}"])
            )
        return len(self.page.tones) - 1

    def _grey(self, title: str, name: str, volume: np.ndarray, unit: str, shades: Tone) -> Pane:
        self.levels[name] = packed(grey(volume, self.images.first.brain, shades, self.page.frame))
        return Pane(title, name, shades.low, shades.high, unit, decimals=shades.decimals)

    def _error(self, title: str, name: str, difference: np.ndarray, unit: str, shades: Tone) -> Pane:
        end, label = number(shades.error, shades.decimals), f"{name}-error"
        self.levels[label] = packed(error(difference, self.images.first.brain, shades.error, self.page.frame))
        pane = Pane(title, label, -shades.error, shades.error, unit, signed=True, decimals=shades.decimals)
        return replace(pane, scale=(f"−{end}", f"+{end} {unit}"))


def _of_arm(arm: Arm, case: str) -> PatientVolumes:
    faults = []
    for run in arm.runs:
        try:
            return run.volumes(case)
        except VolumesError as error:
            faults.append(without_place(str(error), run.folder))
    raise VolumesError("; ".join(faults))


def _require_alike(first: PatientVolumes, other: PatientVolumes) -> None:
    one, two = ((v.targets, v.units, v.brain.shape, v.spacing) for v in (first, other))
    if one != two and not (one[2:] == two[2:] and not (first.targets and other.targets)):
        raise VolumesError(
            f"its images of {other.case} have channels, units, grid and spacing {two}, those of the run before {one}; "
            "test both with the same data section"
        )


def _start(images: Images, frame: Frame) -> dict[str, int]:
    """Of each plane the slice with the largest lesion: of the reference, else found, else the middle one."""
    first = images.first
    for mask in (first.lesion, *(volumes.found for volumes in images.by_arm.values())):
        if mask is not None and mask.any():
            return {plane: int(np.argmax(v.sum((1, 2)))) for plane, v in frame.views(mask).items()}
    return {plane: len(pictures) // 2 for plane, pictures in frame.views(first.brain).items()}


def _masks(study: Study, images: Images) -> dict[str, np.ndarray]:
    """Name → mask, of those that exist and are not empty."""
    first = images.first
    found = {f"arm-{j}": images.by_arm[a.name].found for j, a in enumerate(study.arms) if a.name in images.by_arm}
    masks = {"reference": first.lesion, "real": first.found_real, **found, "penumbra": first.penumbra}
    return {name: mask for name, mask in masks.items() if mask is not None and mask.any()}
