"""One patient's images: what a page of the viewer shows, and the pictures that it shows it with."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ctp_ldm.display.sources import title
from ctp_ldm.display.windows import PRESETS, Tone
from ctp_ldm.metrics import PatientVolumes, VolumesError
from ctp_ldm.report.arms import Arm
from ctp_ldm.report.contours import outlines
from ctp_ldm.report.folder import ReportFolder
from ctp_ldm.report.sprites import Frame, error, frame_of, grey
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
    sprite: file in the page's folder; None where there is no image, which `message` then explains.
    tone: number of its grey windows; None for colours of errors.
    scale: labels of the colours' ends; colours have two signs where the first is negative.
    masks: (name, kind) of the outlines drawn on it.
    """

    title: str
    sprite: str | None = None
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
    tones: for each channel, preset → CSS filter.
    masks: name → path of each slice.
    start: slice to show first.
    notices: what is missing.
    """

    case: str
    frame: Frame
    spacing: tuple[float, float, float]
    start: int = 0
    rows: dict[str, list[Pane]] = field(default_factory=dict)
    windows: dict[str, str] = field(default_factory=dict)
    tones: list[dict[str, str]] = field(default_factory=list)
    masks: dict[str, list[str]] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)

    @property
    def shape(self) -> tuple[float, float]:
        """(width, height) of a slice in mm."""
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
        return {
            "count": self.frame.count,
            "across": self.frame.across,
            "down": self.frame.down,
            "first": self.frame.slices[0],
            "step": self.spacing[0],
            "start": self.start,
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
    """Write a patient's pictures and say how a page shows them.

    Args:
        study: names of arms and targets.
        images: of the patient.
        place: folder of the pictures inside the report, such as cases/007.
        folder: of the report.
    """
    first = images.first
    frame = frame_of(first.brain)
    page = CasePage(first.case, frame, first.spacing, _start(images, frame))
    page.notices += [f"{arm}: {fault}" for arm, fault in images.faults.items()]
    page.masks = {name: outlines(mask, frame) for name, mask in _masks(study, images).items()}
    sheet = _Sheet(study, images, place, folder, page)
    if first.source is not None and first.sources:
        page.rows["Source"] = sheet.source_row()
    for i, (target, unit) in enumerate(zip(first.targets, first.units, strict=True)):
        page.rows[f"{study.title(target)}, {unit}"] = sheet.target_row(i)
    return page


@dataclass(frozen=True)
class _Sheet:
    """Draws rows of panes."""

    study: Study
    images: Images
    place: str
    folder: ReportFolder
    page: CasePage

    def source_row(self) -> list[Pane]:
        first, panes = self.images.first, []
        assert first.source is not None
        for k, name in enumerate(first.sources):
            shades = self.study.tone(name, "", first.source[:, k][first.brain])
            sprite = self._grey(f"source-{k}", first.source[:, k], shades)
            panes.append(Pane(title(name), sprite, self._tone(title(name), shades), masks=self._masks()))
        # What a rival finds without an image is shown on the last of them.
        last = panes[-1]
        for j, arm in enumerate(self.study.arms):
            if not self.images.by_arm.get(arm.name, first).targets:
                panes.append(replace(last, title=f"{arm.name}: lesion found", masks=self._masks(f"arm-{j}")))
        return panes

    def target_row(self, i: int) -> list[Pane]:
        first = self.images.first
        real, target = first.real[:, i], first.targets[i]
        shades = self.study.tone(target, first.units[i], real[first.brain])
        number_of_tone = self._tone(self.study.title(target), shades)
        panes = [Pane("real", self._grey(f"{i}-real", real, shades), number_of_tone, masks=self._masks("real"))]
        for j, arm in enumerate(self.study.arms):
            if not arm.makes_images:
                continue
            if arm.name not in self.images.by_arm:
                panes.append(Pane(f"{arm.name}: synthetic", message="no image of this run, see above"))
                continue
            volumes, masks, name = self.images.by_arm[arm.name], self._masks(f"arm-{j}"), f"{i}-arm-{j}"
            end, unit = number(shades.error, shades.decimals), first.units[i]
            sprite = self._grey(name, volumes.synthetic[:, i], shades)
            panes.append(Pane(f"{arm.name}: synthetic", sprite, number_of_tone, masks=masks))
            difference = error(volumes.synthetic[:, i] - real, first.brain, shades.error, self.page.frame)
            sprite = self._write(f"{name}-error", difference)
            panes.append(Pane(f"{arm.name}: error", sprite, scale=(f"−{end}", f"+{end} {unit}"), masks=masks))
            if volumes.deviation is not None:
                sprite = self._grey(
                    f"{name}-deviation", volumes.deviation[:, i], replace(shades, low=0, high=shades.error)
                )
                panes.append(Pane(f"{arm.name}: SD of samples", sprite, scale=("0", f"{end} {unit}"), masks=masks))
        return panes

    def _masks(self, found: str = "") -> tuple[tuple[str, str], ...]:
        named = (("reference", "reference"), (found, "found"), ("penumbra", "penumbra"))
        return tuple((name, kind) for name, kind in named if name in self.page.masks)

    def _tone(self, title: str, shades: Tone) -> int:
        self.page.tones.append({preset: shades.css(preset) for preset in PRESETS})
        for preset in PRESETS:
            low, high = (number(end, shades.decimals) for end in shades.windows[preset])
            self.page.windows[preset] = "; ".join(
                filter(None, [self.page.windows.get(preset), f"{title} {low} to {high}"])
            )
        return len(self.page.tones) - 1

    def _grey(self, name: str, volume: np.ndarray, shades: Tone) -> str:
        return self._write(name, grey(volume, self.images.first.brain, shades, self.page.frame))

    def _write(self, name: str, picture: bytes) -> str:
        self.folder.write(f"{self.place}/{name}.png", picture)
        return f"{name}.png"


def _of_arm(arm: Arm, case: str) -> PatientVolumes:
    faults = []
    for run in arm.runs:
        try:
            return run.volumes(case)
        except VolumesError as error:
            faults.append(str(error))
    raise VolumesError("; ".join(faults))


def _require_alike(first: PatientVolumes, other: PatientVolumes) -> None:
    one, two = ((v.targets, v.units, v.brain.shape, v.spacing) for v in (first, other))
    if one != two and not (one[2:] == two[2:] and not (first.targets and other.targets)):
        raise VolumesError(
            f"its images of {other.case} have channels, units, grid and spacing {two}, those of the run before {one}; "
            "test both with the same data section"
        )


def _start(images: Images, frame: Frame) -> int:
    """The drawn slice with the largest lesion: of the reference, else found, else the middle one."""
    first = images.first
    for mask in (first.lesion, *(volumes.found for volumes in images.by_arm.values())):
        if mask is not None and mask.any():
            return int(np.argmax(frame.cut(mask).sum((1, 2))))
    return frame.count // 2


def _masks(study: Study, images: Images) -> dict[str, np.ndarray]:
    """Name → mask, of those that exist and are not empty."""
    first = images.first
    found = {f"arm-{j}": images.by_arm[a.name].found for j, a in enumerate(study.arms) if a.name in images.by_arm}
    masks = {"reference": first.lesion, "real": first.found_real, **found, "penumbra": first.penumbra}
    return {name: mask for name, mask in masks.items() if mask is not None and mask.any()}
