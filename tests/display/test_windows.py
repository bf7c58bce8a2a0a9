"""Which channels are looked at, and in which window."""

import numpy as np
import pytest
import torch

from ctp_ldm.data import CBF, CBV, MTT, CTPerfusion, NonContrastCT, PublishedCTPerfusion, Tmax
from ctp_ldm.data.quantities import Quantity
from ctp_ldm.display.sources import look_at, main_sources, shown_sources, title
from ctp_ldm.display.windows import in_words, tone
from ctp_ldm.scaling import Linear, Scaling, SymmetricLog
from ctp_ldm.spec import Channel, DataSpec

MAPS = {"cbf": CBF(), "cbv": CBV(), "mtt": MTT(), "tmax": Tmax()}


def spec(sources: dict[str, Quantity]) -> DataSpec:
    channels = tuple(channel for role, quantity in sources.items() for channel in quantity.channels(role))
    return DataSpec(channels, (Channel("adc", Linear("10⁻⁶ mm²/s", 0.0, 3000.0)),), 3.0, (2, 3))


@pytest.mark.parametrize(
    ("sources", "shown", "windows"),
    [
        ({"ctp": CTPerfusion()}, ["CT before contrast", "mean enhancement"], [(10, 50), (0, 8)]),
        ({"ctp": PublishedCTPerfusion()}, ["mean of phases"], [(10, 50)]),
        ({"ncct": NonContrastCT()}, ["NCCT"], [(10, 50)]),
        (MAPS, ["CBF", "Tmax"], [(0, 80), (0, 12)]),
        ({"ctp": CTPerfusion(), **MAPS}, ["CT before contrast", "mean enhancement"], [(10, 50), (0, 8)]),
        ({"true_cbf": CBF(), "true_delay": Tmax()}, ["true CBF", "true delay"], [(0, 80), (0, 12)]),
    ],
)
def test_what_a_small_figure_shows_of_a_source(
    sources: dict[str, Quantity], shown: list[str], windows: list[tuple[float, float]]
) -> None:
    channels = shown_sources(spec(sources).with_context(1))
    main = [channels[k] for k in main_sources(len(channels))]
    assert [title(c.name) for c in main] == shown
    assert [tone(c.scaling.unit, c.scaling, np.zeros(0)).standard for c in main] == windows


def test_cbf_and_tmax_are_shown_however_many_channels_there_are() -> None:
    many = {"ncct": NonContrastCT(), "ctp": CTPerfusion(), **{name: MAPS[name] for name in ("mtt", "cbv")}}
    channels = shown_sources(spec({**many, "other": NonContrastCT(), "cbf": CBF(), "tmax": Tmax()}))
    names = [channel.name for channel in channels]
    assert names == ["ncct", "ctp_baseline", "mtt", "cbf", "tmax", "mean enhancement"]


def test_phases_are_averaged_in_their_unit_not_as_they_are_encoded() -> None:
    whole = spec({"ctp": CTPerfusion(phases=2)})
    physical = torch.tensor([30.0, 2.0, 40.0])  # before contrast, and two phases
    encoded = torch.stack([c.scaling.encode(v) for c, v in zip(whole.source, physical, strict=True)])
    values = look_at(encoded[None, :, None, None].expand(1, 3, 2, 3), whole)
    assert values[0, :, 1, 2].tolist() == pytest.approx([30.0, 21.0], rel=1e-5)


@pytest.mark.parametrize(
    ("unit", "scaling", "standard", "error"),
    [
        ("relative DWI", None, (0, 2.5), 1),
        ("10⁻⁶ mm²/s", Linear("10⁻⁶ mm²/s", 0, 3000), (0, 2000), 500),
        ("robust range", Linear("robust range", 0, 1), (0, 1), 0.25),
        ("a.u.", Linear("a.u.", -10, 30), (-10, 30), 10),
        ("a.u.", SymmetricLog("a.u.", 5, 200), (1, 99), 24.95),  # its range says little: percentiles of 0 … 100
    ],
)
def test_windows_depend_on_images_only_where_nothing_else_tells(
    unit: str, scaling: Scaling | None, standard: tuple[float, float], error: float
) -> None:
    found = tone(unit, scaling, np.linspace(0, 100, 1001))
    assert found.standard == pytest.approx(standard)
    assert found.error == pytest.approx(error)


def test_windows_in_words() -> None:
    assert in_words(0, 2.5, "relative DWI") == "0–2.5 relative DWI"
    assert in_words(-500, 500, "10⁻⁶ mm²/s") == "±500 × 10⁻⁶ mm²/s"
    assert in_words(-10, 40, "HU") == "−10 to 40 HU"
    assert in_words(0, 1, "") == "0–1"
