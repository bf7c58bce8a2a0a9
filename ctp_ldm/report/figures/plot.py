"""A small plot as SVG.

Drawn by hand instead of by matplotlib, because these follow the page: its font, its light and dark colours, a tooltip
and a link to the patient behind each point, and panels that wrap on a phone instead of shrinking. How things look is
in pages/figure.css, which goes into files that stand alone too.
"""

from dataclasses import dataclass, field
from importlib.resources import files

from markupsafe import Markup

from ctp_ldm.report.figures.scale import Scale

WIDTH, HEIGHT = 380, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 30, 46
FOOT = 15
LONGEST = 50
COLOURS = 6
"""Arms beyond these share colours."""


@dataclass
class Plot:
    """One panel with its axes; marks are added in data coordinates.

    title, x_label, y_label: texts.
    x, y: scales.
    height: of the whole, in px.
    left, bottom: margins for the labels of y and x.
    footer: lines of text below.
    """

    title: str
    x: Scale
    y: Scale
    x_label: str = ""
    y_label: str = ""
    height: int = HEIGHT
    left: int = LEFT
    bottom: int = BOTTOM
    footer: list[str] = field(default_factory=list)
    _marks: list[tuple[Markup, str | None]] = field(default_factory=list)

    def across(self, value: float) -> float:
        """px of an x."""
        return self.left + self.x.place(value) * (WIDTH - self.left - RIGHT)

    def down(self, value: float) -> float:
        """px of a y."""
        return self.height - self.bottom - self.y.place(value) * (self.height - TOP - self.bottom)

    def point(self, x: float, y: float, arm: int, tip: str, case: str | None = None, kind: str = "point") -> None:
        """A dot with a tooltip, which leads to the case."""
        mark = Markup('<circle class="{} arm-{}" cx="{}" cy="{}" r="{}"><title>{}</title></circle>')
        radius = 4 if kind == "mean" else 3
        self._marks.append(
            (mark.format(kind, arm % COLOURS, _px(self.across(x)), _px(self.down(y)), radius, tip), case)
        )

    def line(self, x: tuple[float, float], y: tuple[float, float], kind: str, arm: int | None = None) -> None:
        """From one place to another."""
        mark = Markup('<line class="{}" x1="{}" x2="{}" y1="{}" y2="{}"/>')
        name = kind if arm is None else f"{kind} arm-{arm % COLOURS}"
        places = [_px(self.across(v)) for v in x] + [_px(self.down(v)) for v in y]
        self._marks.append((mark.format(name, *places), None))

    def path(self, points: list[tuple[float, float]], kind: str, arm: int) -> None:
        """Through several places."""
        places = " ".join(f"{_px(self.across(x))},{_px(self.down(y))}" for x, y in points)
        self._marks.append(
            (Markup('<polyline class="{} arm-{}" points="{}"/>').format(kind, arm % COLOURS, places), None)
        )

    def ribbon(self, low: list[tuple[float, float]], high: list[tuple[float, float]], arm: int) -> None:
        """Between two paths."""
        places = " ".join(f"{_px(self.across(x))},{_px(self.down(y))}" for x, y in [*low, *reversed(high)])
        self._marks.append((Markup('<polygon class="ribbon arm-{}" points="{}"/>').format(arm % COLOURS, places), None))

    def band(self, low: float, high: float, kind: str = "band") -> None:
        """Over the whole width."""
        top, bottom = self.down(high), self.down(low)
        mark = Markup('<rect class="{}" x="{}" width="{}" y="{}" height="{}"/>')
        width = WIDTH - self.left - RIGHT
        self._marks.append((mark.format(kind, self.left, width, _px(top), _px(max(bottom - top, 0.5))), None))

    def text(self, x: float, y: float, text: str, kind: str = "note", lift: float = 0.0) -> None:
        """At a place; `kind` says by its class how it is aligned. lift: px above the place."""
        mark = Markup('<text class="{}" x="{}" y="{}">{}</text>')
        self._marks.append((mark.format(kind, _px(self.across(x)), _px(self.down(y) - lift), text), None))

    def svg(self, links: dict[str, str] | None = None) -> Markup:
        """For a page.

        Args:
            links: case → page that its points lead to.
        """
        return self._element(self._axes() + self._content(links or {}), Markup(""))

    def standalone(self) -> str:
        """For a file, with its own style and without links."""
        style = (files("ctp_ldm.report") / "pages" / "figure.css").read_text()
        background = Markup('<rect class="paper" width="100%" height="100%"/>')
        inner = Markup("<style>{}</style>").format(Markup(style)) + background + self._axes() + self._content({})
        return str(self._element(inner, Markup(' xmlns="http://www.w3.org/2000/svg"')))

    def _element(self, inner: Markup, attributes: Markup) -> Markup:
        mark = Markup('<svg{} class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>')
        return mark.format(attributes, WIDTH, self.height, self.title, inner)

    def _content(self, links: dict[str, str]) -> Markup:
        linked = Markup('<a href="{}">{}</a>')
        return Markup("").join(
            linked.format(links[case], mark) if case is not None and case in links else mark
            for mark, case in self._marks
        )

    def _axes(self) -> Markup:
        right, floor = WIDTH - RIGHT, self.height - self.bottom
        parts = [Markup('<text class="title" x="{}" y="17">{}</text>').format(8, _fitting(self.title))]
        for value, label in self.y.ticks:
            y = _px(self.down(value))
            parts.append(Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(self.left, right, y, y))
            parts.append(
                Markup('<text class="tick y" x="{}" y="{}" dy=".35em">{}</text>').format(self.left - 6, y, label)
            )
        for value, label in self.x.ticks:
            x = _px(self.across(value))
            parts.append(Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(x, x, TOP, floor))
            for line, words in enumerate(label.split("\n")):
                place = floor + 15 + 12 * line
                parts.append(Markup('<text class="tick x" x="{}" y="{}">{}</text>').format(x, place, words))
        mark = Markup('<line class="axis" x1="{}" x2="{}" y1="{}" y2="{}"/>')
        parts.append(mark.format(self.left, right, floor, floor))
        middle = (self.left + right) / 2
        last = self.height - 7
        below = Markup('<text class="label x" x="{}" y="{}">{}</text>')
        parts.append(below.format(middle, last - FOOT * len(self.footer), self.x_label))
        for line, words in enumerate(reversed(self.footer)):
            parts.append(Markup('<text class="foot" x="{}" y="{}">{}</text>').format(8, last - FOOT * line, words))
        turned = Markup('<text class="label y" transform="translate(13 {}) rotate(-90)">{}</text>')
        parts.append(turned.format(_px((TOP + floor) / 2), self.y_label))
        return Markup("").join(parts)


@dataclass(frozen=True)
class Figure:
    """Panels that belong together.

    name: of its files.
    title, caption: texts.
    plots: the panels.
    legend: whether the arms' colours need explaining.
    downstream: whether it depends on the segmenter.
    """

    name: str
    title: str
    caption: str
    plots: list[Plot]
    legend: bool = True
    downstream: bool = False


def _fitting(title: str) -> str:
    """Runs may be called by their paths, whose ends tell them apart."""
    return title if len(title) <= LONGEST else f"…{title[1 - LONGEST :]}"


def _px(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
