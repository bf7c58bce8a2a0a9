"""The figure of `ctp-ldm compare`: the same slices of every run that makes images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ctp_ldm.display.panels import Panel, Row, draw_rows, grey_panel, render, save_png
from ctp_ldm.display.sources import main_sources, title
from ctp_ldm.display.windows import Tone
from ctp_ldm.report.arms import Arm
from ctp_ldm.report.examples import choose_examples
from ctp_ldm.report.study import Study
from ctp_ldm.report.viewer import Images, NoImages, read_images

DPI = 150
READING = (
    "Upper lines plain, lower ones outlined. Below an image: the volume found on it, and the share of the reference "
    "lesion that was found. The patient's right is on the left, the nose is up."
)


def draw_comparison(arms: Sequence[Arm], path: Path) -> str:
    """Draw examples of the runs that make images, of several seeds the first; an earlier figure goes in any case.

    Args:
        arms: the reference first.
        path: of the PNG; no file appears where a run lacks what is drawn.

    Returns:
        What the figure shows, or why there is none.
    """
    path.unlink(missing_ok=True)
    # Rows of the tables then belong to the images.
    imaging = [replace(arm, runs=arm.runs[:1]) for arm in arms if arm.makes_images]
    if not imaging:
        return "No figure: none of the runs makes images."
    study = Study(imaging, imaging[0])
    examples = choose_examples(study)
    images: dict[str, Images] = {}
    faults: list[str] = []
    for kind, case in examples.cases.items():
        try:
            images[kind] = read_images(study, case)
            faults += images[kind].faults.values()
        except NoImages as fault:
            faults.append(str(fault))
    if faults:
        return "\n".join(["No figure, because runs lack what it would show:", *(f"- {fault}" for fault in faults)])
    seeds = [f"{arm.name}: {arm.runs[0].folder.name}" for arm in arms if arm.makes_images and len(arm.runs) > 1]
    several = f" Of several seeds one is shown ({', '.join(seeds)})." if seeds else ""
    caption = f"{examples.rule}{several} {READING}"
    save_png(path, render(draw_rows(_rows(study, images), caption), DPI))
    return caption


def _rows(study: Study, images: Mapping[str, Images]) -> list[Row]:
    """By what they are examples of; a column has one window for all of them."""
    firsts = [one.first for one in images.values()]
    first = firsts[0]
    sources = [
        study.tone(name, "", np.concatenate([v.source[:, k][v.brain] for v in firsts if v.source is not None]))
        for k, name in enumerate(first.sources)
    ]
    targets = [
        study.tone(name, unit, np.concatenate([v.real[:, i][v.brain] for v in firsts]))
        for i, (name, unit) in enumerate(zip(first.targets, first.units, strict=True))
    ]
    return [_Case(study, kind, one, sources, targets).row() for kind, one in images.items()]


@dataclass(frozen=True)
class _Case:
    """One line of the figure: windows are those of `sources` and `targets`, in the order of the volumes' channels."""

    study: Study
    kind: str
    images: Images
    sources: Sequence[Tone]
    targets: Sequence[Tone]

    def row(self) -> Row:
        first, z = self.images.first, self.slice
        lesion = first.lesion if first.lesion is not None else np.zeros_like(first.brain)
        size = f"lesion {lesion.sum() * first.voxel_ml:.1f} mL" if lesion.any() else "no lesion"
        groups = [self._source_panels(), *(self._target_panels(i) for i in range(len(first.targets)))]
        return Row(f"{first.case}\n{self.kind}\n{size}", groups, first.brain[z], lesion[z])

    @property
    def slice(self) -> int:
        """With most lesion, else with most that the last run has found, else with most brain."""
        first, last = self.images.first, self.images.by_arm[self.study.arms[-1].name]
        masks = [mask for mask in (first.lesion, last.found, first.brain) if mask is not None and mask.any()]
        return int(np.argmax(masks[0].sum((1, 2)))) if masks else 0

    def _source_panels(self) -> list[Panel]:
        first, z = self.images.first, self.slice
        if first.source is None:
            return []
        return [
            self._panel(first.source[z, k], self.sources[k], title(first.sources[k]), self._unit(first.sources[k], ""))
            for k in main_sources(len(first.sources))
        ]

    def _target_panels(self, i: int) -> list[Panel]:
        first, z = self.images.first, self.slice
        name, unit = title(first.targets[i]), self._unit(first.targets[i], first.units[i])
        columns = {"real": (first.real, first.found_real)}
        columns |= {arm: (volumes.synthetic, volumes.found) for arm, volumes in self.images.by_arm.items()}
        return [
            self._panel(image[z, i], self.targets[i], f"{name} {column}", unit, found, note=i == 0)
            for column, (image, found) in columns.items()
        ]

    def _unit(self, name: str, otherwise: str) -> str:
        channel = self.study.channels.get(name)
        return channel.scaling.unit if channel else otherwise

    def _panel(
        self,
        image: np.ndarray,
        tone: Tone,
        heading: str,
        unit: str,
        found: np.ndarray | None = None,
        note: bool = False,
    ) -> Panel:
        first, z = self.images.first, self.slice
        words = self._note(found) if note and found is not None else ""
        mask = None if found is None else found[z]
        return grey_panel(image, first.brain[z], tone, heading, unit, found=mask, note=words)

    def _note(self, found: np.ndarray) -> str:
        first = self.images.first
        volume = f"found {found.sum() * first.voxel_ml:.1f} mL"
        if first.lesion is None or not first.lesion.any():
            return volume
        return f"{volume}, {100 * (found & first.lesion).sum() / first.lesion.sum():.0f} %"
