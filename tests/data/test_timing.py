"""When frames and slices were taken: sidecars of every kind, slices with their own times, whose word the timing is."""

import json
import re
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from ctp_ldm.data.cases import Case
from ctp_ldm.data.faults import DataFault
from ctp_ldm.data.loading import LoadedCase, load_case
from ctp_ldm.data.module import CTPToDiffusionMRI
from ctp_ldm.data.quantities import PublishedCTPerfusion
from ctp_ldm.data.series import series_bolus, series_phases
from ctp_ldm.data.timing import Timing, sidecar_of
from ctp_ldm.data.volumes import Volume, read_volume

from . import trees
from .files import AFFINE, volume

SERIES = np.random.default_rng(1).normal(size=(6, 5, 4, 9)).astype(np.float32)
TASK = CTPToDiffusionMRI().task


def _series(folder: Path, sidecar: bytes, axes: str = "LAS") -> Path:
    image = nib.Nifti1Image(SERIES, AFFINE)
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(AFFINE), nib.orientations.axcodes2ornt(tuple(axes))
    )
    turned = image.as_reoriented(turn)
    trees.state_interval(turned, 1.5)
    nib.save(turned, folder / "ctp.nii.gz")
    (folder / "ctp.json").write_bytes(sidecar)
    return folder / "ctp.nii.gz"


def _read(folder: Path, content: object, axes: str = "LAS") -> Volume:
    return read_volume(_series(folder, json.dumps(content).encode(), axes), 4)


# ------------------------------------------------------------------------------------------------------------ sidecars


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16", "utf-32"])
def test_sidecars_are_read_in_every_encoding(tmp_path: Path, encoding: str) -> None:
    text = json.dumps({"SeriesDescription": "Schädel-Perfusion µ", "RepetitionTime": 2.0}, ensure_ascii=False)
    np.testing.assert_array_equal(read_volume(_series(tmp_path, text.encode(encoding)), 4).times, 2.0 * np.arange(9))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"RepetitionTime": -1.5}, "RepetitionTime is -1.5; expected seconds between frames, above 0"),
        ({"RepetitionTime": 0}, "RepetitionTime is 0; expected seconds between frames, above 0"),
        ({"RepetitionTime": float("nan")}, "RepetitionTime is nan; expected seconds between frames"),
        ({"RepetitionTime": "soon"}, "RepetitionTime is soon; expected seconds"),
        ({"VolumeTiming": [0, 1, 2, 4, 3, 5, 6, 7, 8]}, "VolumeTiming has 3 after 4 (frames 4 and 5); expected 9"),
        ({"VolumeTiming": [0, 1]}, "VolumeTiming has 2 values; expected 9 increasing seconds"),
        ({"FrameTimesStart": [0, 1, None, 3, 4, 5, 6, 7, 8]}, "value 3 of FrameTimesStart is nan; expected 9"),
        ({"SliceTiming": [0, 1, 2]}, "SliceTiming has 3 values; expected 4 seconds, one for each slice"),
        ({"SliceTiming": [0, -1, 0, 0]}, "SliceTiming goes from -1 to 0; expected seconds"),
        ({"SliceTiming": [0, 0, 1500, 1500]}, "SliceTiming goes from 0 to 1500; expected seconds"),
        ({"SliceTiming": [0, 1, 0, 1], "SliceEncodingDirection": "z"}, "SliceEncodingDirection is 'z'; expected i, j"),
        (
            {"SliceTiming": [0, 1, 0, 1, 0, 1], "SliceEncodingDirection": "i"},
            "SliceTiming is of axis i, which does not run",
        ),
    ],
)
def test_what_a_sidecar_says_wrong_is_named(tmp_path: Path, content: object, said: str) -> None:
    with pytest.raises(DataFault, match=rf"ctp\.json: {re.escape(said)}"):
        _read(tmp_path, content)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"{", b"[1]", b"\x93NUMPY"])
def test_what_is_no_json_object_is_a_fault_of_the_sidecar(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataFault, match=r"ctp\.json is not a JSON object"):
        read_volume(_series(tmp_path, content), 4)


# -------------------------------------------------------------------------------------------------------- slice timing


@pytest.mark.parametrize(
    ("axes", "direction", "from_feet"),
    [
        ("LAS", None, [0, 3, 1, 2]),
        ("LAS", "k", [0, 3, 1, 2]),
        ("LAS", "k-", [2, 1, 3, 0]),
        ("LPI", "k", [2, 1, 3, 0]),
        ("LPI", "k-", [0, 3, 1, 2]),
        ("SPR", "i", [0, 3, 1, 2]),
        ("AIR", "j-", [0, 3, 1, 2]),
    ],
)
def test_slices_have_their_times_whatever_the_order_they_are_stored_in(
    tmp_path: Path, axes: str, direction: str | None, from_feet: list[float]
) -> None:
    content: dict[str, Any] = {"SliceTiming": [0.5, 3.5, 1.5, 2.5]}
    if direction is not None:
        content["SliceEncodingDirection"] = direction
    read = _read(tmp_path, content, axes)
    assert read.timing is not None
    np.testing.assert_array_equal(read.timing.offsets, from_feet)
    np.testing.assert_allclose(read.times, 1.5 * np.arange(9))


@pytest.mark.parametrize("content", [{}, {"SliceTiming": []}, {"SliceTiming": [1, 1, 1, 1]}])
def test_slices_at_one_time_need_no_times_of_their_own(tmp_path: Path, content: object) -> None:
    read = _read(tmp_path, content)
    assert read.timing is not None
    assert read.timing.offsets is None


OFFSETS = np.array([0.0, 3.0, 0.0, 3.0, 1.2])
BRAIN = np.ones((4, 4, 5), bool)


def _bolus(t: np.ndarray) -> np.ndarray:
    since = np.clip(t - 12.0, 0, None) / 6
    return 8 * since**2 * np.exp(2 * (1 - since))


@pytest.mark.parametrize("offsets", [OFFSETS, OFFSETS[::-1] + 0.4])
def test_each_slice_is_taken_at_its_own_times(offsets: np.ndarray) -> None:
    """The same blood in every slice: the phases are alike, and those of a scan of all slices at once."""
    times = 1.0 * np.arange(60)
    series = np.empty((*BRAIN.shape, 60), np.float32)
    series[:] = 30 + _bolus(times + offsets[:, None])
    timed = volume(series, times)
    at_once = np.empty_like(series)
    at_once[:] = 30 + _bolus(times)
    plain = volume(at_once, times)
    slices = Volume(**{**timed.__dict__, "timing": Timing(times, offsets)})
    bolus = series_bolus(slices, BRAIN)
    reference = series_bolus(plain, BRAIN)
    assert bolus.arrival == pytest.approx(reference.arrival, abs=0.15)
    before, *phases = series_phases(slices, bolus, 15, 2.5)
    moments = bolus.arrival + 2.5 * np.arange(15)[:, None] + np.linspace(-1.25, 1.25, 101)
    expected = _bolus(moments).mean(axis=1)
    np.testing.assert_allclose(before, 30, atol=0.02)
    np.testing.assert_allclose(
        phases, np.broadcast_to(expected[:, None, None, None], (15, *BRAIN.shape)), atol=0.12
    )  # of lines between frames 1 s apart
    ignored = series_phases(timed, series_bolus(timed, BRAIN), 15, 2.5)
    assert np.ptp(ignored, axis=3).max() > 3


def test_a_slice_without_a_frame_before_contrast_is_refused() -> None:
    times = 1.0 * np.arange(60)
    offsets = np.array([0.0, 0.0, 0.0, 0.0, 20.0])
    series = np.empty((*BRAIN.shape, 60), np.float32)
    series[:] = 30 + _bolus(times + offsets[:, None])
    slices = Volume(**{**volume(series, times).__dict__, "timing": Timing(times, offsets)})
    brain = BRAIN.copy()
    brain[:, :, 4] = False
    with pytest.raises(DataFault, match=r"^slices 5 from the feet: no frame before contrast: .* expected at least 2 s"):
        series_phases(slices, series_bolus(slices, brain), 15, 2.5)


def test_published_time_points_with_slice_times_are_phases(tmp_path: Path) -> None:
    times = 3.0 * np.arange(15)
    series = np.empty((*BRAIN.shape, 15), np.float32)
    series[:] = 30 + _bolus(times + OFFSETS[:, None])
    slices = Volume(**{**volume(series, times).__dict__, "timing": Timing(times, OFFSETS)})
    made = PublishedCTPerfusion().convert(slices, BRAIN, {})
    assert np.ptp(made, axis=3).max() < 1.0
    np.testing.assert_array_equal(
        PublishedCTPerfusion().convert(volume(series, times), BRAIN, {}), np.moveaxis(series, -1, 0)
    )


def _load(
    root: Path, interval: float | None, stated: float | None = None, documented: float | None = None
) -> LoadedCase:
    files = trees.case_folder(root, "p1")
    trees.write_case(files, trees.patient(1), trees.Encoding(interval=interval))
    return load_case(Case("p1", {r: files[r] for r in TASK.roles if r != "brain"}, {}, documented), TASK, stated)


def test_two_slabs_taken_in_turn_give_what_one_slab_gives(tmp_path: Path) -> None:
    plain = _load(tmp_path / "plain", 1.0)
    files = trees.case_folder(tmp_path / "slabs", "p1")
    ctp = trees.patient(1)["ctp"].copy()
    ctp[:, :, 3:, :-3] = ctp[:, :, 3:, 3:]  # what is seen 3 s later
    trees.write_case(files, {**trees.patient(1), "ctp": ctp}, trees.Encoding(interval=1.0))
    sidecar_of(files["ctp"]).write_text(json.dumps({"RepetitionTime": 1.0, "SliceTiming": [0, 0, 0, 3, 3, 3]}))
    slabs = load_case(Case("p1", {r: files[r] for r in TASK.roles if r != "brain"}), TASK)
    assert slabs.faults == []
    assert slabs.facts["ctp"]["arrival"] == pytest.approx(plain.facts["ctp"]["arrival"], abs=0.5)
    assert plain.brain is not None
    assert slabs.brain is not None
    both = plain.brain & slabs.brain
    for part in (slice(0, 3), slice(3, 6)):
        inside = np.zeros_like(both)
        inside[:, :, part] = both[:, :, part]
        apart = (slabs.values["ctp"][1:12] - plain.values["ctp"][1:12])[:, inside].mean(axis=1)
        assert np.abs(apart).max() < 0.6


# ---------------------------------------------------------------------------------------------------------- whose word


@pytest.mark.parametrize(
    ("interval", "stated", "documented", "word", "remarked"),
    [
        (1.0, None, None, "header", ""),
        (1.0, None, 2.0, "header", ""),
        (None, None, 1.0, "assumed", "ctp: frames 1 s apart are assumed: the file does not say"),
        (None, 1.0, 2.0, "data.frame_interval", ""),
        (1.0, 1.0, None, "data.frame_interval", ""),
        (2.0, 1.0, None, "data.frame_interval", "ctp: frames 1 s apart as data.frame_interval says: the header says 2"),
    ],
)
def test_whose_word_the_timing_is(
    tmp_path: Path, interval: float | None, stated: float | None, documented: float | None, word: str, remarked: str
) -> None:
    loaded = _load(tmp_path, interval, stated, documented)
    assert loaded.facts["ctp"]["timing"] == word
    assert [remarked in remark for remark in loaded.remarks] == ([True] if remarked else [])
