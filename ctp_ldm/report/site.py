"""`ctp-ldm report`: tested runs → a folder of pages that opens from disk."""

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from tqdm import tqdm

from ctp_ldm import __version__
from ctp_ldm.metrics import calibration_curve
from ctp_ldm.report import rows, wording
from ctp_ldm.report.differences import interval_note
from ctp_ldm.report.download import case_csv, nifti_links
from ctp_ldm.report.figures import Figure, agreement, calibration, curves, false_lesion, forest, strata
from ctp_ldm.report.figures.calibration import Curves
from ctp_ldm.report.folder import ReportFolder, file_names
from ctp_ldm.report.ranking import Ranking, choose_cases, rank
from ctp_ldm.report.study import Study, read_study
from ctp_ldm.report.verdict import verdict
from ctp_ldm.report.viewer import CasePage, Images, NoImages, draw_case, has_images, read_images

ASSETS = ("style.css", "figure.css", "index.js", "volume.js", "case.js")
MEAN_NOTE = "Mean over patients [95 % interval]; Wilson's for shares of patients."
METHOD_NOTE = "Seeds are averaged per patient; slices are never counted as patients."


def write_report(
    runs: Sequence[Path],
    out: Path,
    reference: str | None = None,
    cases: int | None = 50,
    title: str = "CT perfusion to diffusion MRI",
) -> Path:
    """Write tables, figures, a list of cases and a viewer for each of them.

    Args:
        runs: run folders, the reference first; `X-seed1`, `X-seed2` are averaged per patient.
        out: new or empty folder, or an earlier report, which is replaced.
        reference: name of another arm to compare with.
        cases: how many get a viewer; None for all.
        title: of the page.

    Returns:
        The page to open.

    Raises:
        ComparisonError: no run can be read, or those that can are not comparable.
        ReportFolderError: `out` is not a place for a report.
    """
    return _Report(read_study(runs, reference), ReportFolder(out), title).write(cases)


class _Report:
    def __init__(self, study: Study, folder: ReportFolder, title: str) -> None:
        self.study, self.folder, self.title = study, folder, title
        self.pages = Environment(
            loader=PackageLoader("ctp_ldm.report", "pages"),
            autoescape=True,  # names of runs and cases are whatever their folders are called
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.pages.globals |= {"version": __version__, "root": "", "title": title, "arms": study.arms}
        self.names = file_names(study.cases)
        self.curves: dict[str, list[Curves]] = {}

    def write(self, cases: int | None) -> Path:
        for name in ASSETS:
            self.folder.write(name, (files("ctp_ldm.report") / "pages" / name).read_bytes())
        ranking = rank(self.study)
        able = {case for case in self.study.cases if has_images(self.study, case)}
        shown, reasons = self._cases(choose_cases(ranking, cases, able))
        if cases != 0:
            reasons |= {
                case: "no run has a file of its volumes; ctp-ldm test writes them"
                for case in self.study.cases
                if case not in able
            }
        self.study.notices.extend(_missing(reasons))
        context = self._context(ranking, shown, reasons, cases)
        # What the page says of the folder's size counts itself: a few digits more or less do not matter.
        page = self.pages.get_template("index.html")
        self._index(page.render(**context, size_note=self._size(len(shown), 0)))
        self._index(page.render(**context, size_note=self._size(len(shown), self.folder.size)))
        self.folder.finish()
        print(f"{len(shown)} of {len(self.study.cases)} cases with images, {wording.size(self.folder.size)}")
        for notice in self.study.notices:
            print(f"note: {notice}")
        return self.folder.path / "index.html"

    def _index(self, text: str) -> None:
        self.folder.write("index.html", text)

    def _size(self, shown: int, size: int) -> str:
        return (
            f"This folder holds {wording.size(size)} in {len(self.folder.sizes)} files; {shown} of "
            f"{len(self.study.cases)} cases have images."
        )

    def _cases(self, wanted: list[str]) -> tuple[list[str], dict[str, str]]:
        """Cases with a viewer, and why others of those that were wanted have none."""
        reasons: dict[str, str] = {}
        drawn: list[str] = []
        # Which case comes before and after is known only once all have been read, and what was read is too large to be
        # kept: a page is written when the next one is.
        waiting: CasePage | None = None
        for case in tqdm(wanted, desc="cases", unit="case", disable=None):
            try:
                images = read_images(self.study, case)
            except NoImages as fault:
                reasons[case] = str(fault)
                continue
            page = draw_case(self.study, images, f"cases/{self.names[case]}", self.folder)
            self._add_curves(images)
            if waiting is not None:
                self._case(waiting, drawn, after=case)
            waiting = page
            drawn.append(case)
        if waiting is not None:
            self._case(waiting, drawn, after=None)
        return drawn, reasons

    def _case(self, page: CasePage, drawn: list[str], after: str | None) -> None:
        place = drawn.index(page.case)
        name = self.names[page.case]
        text = self.pages.get_template("case.html").render(
            page=page,
            images=f"{name}.js",
            predictions=nifti_links(self.study, page.case, self.folder.path / "cases" / f"{name}.html"),
            place=f"case {place + 1}",
            before=self.names[drawn[place - 1]] if place else None,
            after=self.names[after] if after else None,
            numbers=rows.case_numbers(self.study, page.case),
            note=self._case_note(),
        )
        self.folder.write(f"cases/{name}.html", text)

    def _case_note(self) -> str:
        seeds = [f"{arm.name}: {arm.runs[0].folder.name}" for arm in self.study.arms if len(arm.runs) > 1]
        several = f" Numbers are means over seeds, images those of one ({', '.join(seeds)})." if seeds else ""
        return (
            "The patient's right is on the left, the nose is up; coronal and sagittal views have the head up and show "
            "the slices as thick as they are. Values are those of the 256 levels that the page holds over the widest "
            f"window, so about right; nothing outside the brain is shown.{several} {rows.segmenter_note(self.study)}"
        )

    def _add_curves(self, images: Images) -> None:
        for arm, volumes in images.by_arm.items():
            if volumes.deviation is not None:
                self.curves.setdefault(arm, []).append(calibration_curve(volumes))

    def _context(
        self, ranking: Ranking, shown: list[str], reasons: dict[str, str], cases: int | None
    ) -> dict[str, Any]:
        study = self.study
        pages = {case: f"cases/{self.names[case]}.html" for case in shown}
        made = [agreement(study), strata(study), false_lesion(study), curves(study), calibration(study, self.curves)]
        figures = [figure for figure in made if figure is not None]
        over = forest(study)
        for figure in filter(None, [over, *figures]):
            self._save(figure)
        listed = rows.case_list(study, ranking, pages, reasons)
        self.folder.write("cases.csv", case_csv(listed))
        return {
            "verdict": verdict(study),
            "notices": study.notices,
            "patients": f"{len(study.cases)} test patient{'s' if len(study.cases) != 1 else ''}",
            "reference": study.reference.name,
            "others": study.others,
            "primary": rows.primary_rows(study),
            "secondary": rows.secondary_rows(study),
            "differences": rows.difference_rows(study),
            "forest": over,
            "figures": figures,
            "links": pages,
            "segmenter": rows.segmenter_note(study),
            "list": listed,
            "runs": rows.run_rows(study),
            "mean_note": MEAN_NOTE,
            "difference_note": rows.difference_note(study),
            "cases_note": self._cases_note(ranking, len(shown), cases),
            "method_note": f"{METHOD_NOTE} {interval_note(study.arms)}",
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        }

    def _cases_note(self, ranking: Ranking, shown: int, cases: int | None) -> str:
        if not ranking.column:
            return "No metric ranks these patients."
        by = f"{self.study.metric(ranking.column).title} of {ranking.arm.name}"
        if cases is None or cases >= len(self.study.cases):
            return f"All patients, by {by}; {shown} have images. Choose a name to see them."
        return (
            f"All patients, by {by}. {shown} have images: the worst, the median and the best in turn, and such as have "
            "no rank (--cases all shows everyone). Choose a name to see them."
        )

    def _save(self, figure: Figure) -> None:
        for number, plot in enumerate(figure.plots, 1):
            self.folder.write(f"figures/{figure.name}-{number}.svg", plot.standalone())


def _missing(reasons: dict[str, str]) -> list[str]:
    """A line for each reason why cases have no images."""
    by_reason: dict[str, list[str]] = {}
    for case, reason in reasons.items():
        by_reason.setdefault(reason, []).append(case)
    return [
        f"No images of {', '.join(cases[:3])}{f' and {len(cases) - 3} more' if len(cases) > 3 else ''}: {reason}."
        for reason, cases in by_reason.items()
    ]
