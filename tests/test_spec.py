"""The record of what the numbers mean, and the refusal to mix two of them."""

import json
from dataclasses import replace

import pytest
import torch

from ctp_ldm.scaling import Linear, SymmetricLog
from ctp_ldm.spec import RESAMPLED, Channel, DataSpec, SpecMismatch

BASELINE = Channel("baseline", Linear("HU", 0.0, 80.0))
PHASE = Channel("phase", SymmetricLog("HU", 5.0, 200.0))
DWI = Channel("dwi", Linear("relative DWI", 0.0, 4.0))
ADC = Channel("adc", Linear("10⁻⁶ mm²/s", 0.0, 3000.0))
SPEC = DataSpec((BASELINE, PHASE), (DWI, ADC), 1.0, (192, 224))


def _require(spec: DataSpec) -> None:
    SPEC.require_same(spec, "the store", "the checkpoint", "train again")


def test_plain_data_survives_json() -> None:
    back = DataSpec.from_plain(json.loads(json.dumps(SPEC.to_plain())))
    assert back == SPEC
    assert isinstance(back.size, tuple)
    _require(back)


def test_targets_are_decoded_each_in_its_own_unit() -> None:
    encoded = torch.tensor([-1.0, 0.0, 1.0, 0.5])[:, None, None, None].expand(4, 2, 3, 5).half()
    values = SPEC.decode_target(encoded)
    assert values.shape == (4, 2, 3, 5)
    assert values.dtype == torch.float32
    assert values[:, 0, 1, 2].tolist() == [0.0, 2.0, 4.0, 3.0]
    assert values[:, 1, 1, 2].tolist() == [0.0, 1500.0, 3000.0, 2250.0]
    assert SPEC.target_names == ["dwi", "adc"]


def test_context_repeats_the_source_for_each_neighbour() -> None:
    wide = SPEC.with_context(1)
    assert [c.name for c in wide.source] == ["baseline@-1", "phase@-1", "baseline", "phase", "baseline@+1", "phase@+1"]
    assert [c.scaling for c in wide.source] == [BASELINE.scaling, PHASE.scaling] * 3
    assert (wide.target, wide.spacing, wide.size) == (SPEC.target, SPEC.spacing, SPEC.size)
    assert SPEC.with_context(0) == SPEC
    with pytest.raises(SpecMismatch, match="source channels"):
        _require(wide)


@pytest.mark.parametrize("thickness", [None, 2.5, 5.0])
def test_how_it_was_resampled_is_part_of_what_numbers_mean(thickness: float | None) -> None:
    plain = replace(SPEC, slice_thickness=thickness).to_plain()
    assert {key: plain[key] for key in RESAMPLED} == {
        "slice_thickness": thickness,
        "averaging": "masked mean",
        "phases": "local linear fit",
    }
    assert DataSpec.from_plain(plain).slice_thickness == thickness


@pytest.mark.parametrize("silent", [RESAMPLED, ("averaging",)])
def test_a_record_that_does_not_say_how_it_was_resampled_is_refused_with_what_to_do(silent: tuple[str, ...]) -> None:
    old = {key: value for key, value in SPEC.to_plain().items() if key not in silent}
    said = rf"the spec of old\.ckpt does not say {', '.join(silent)}: .*0\.2\.0.* prepare the data again"
    with pytest.raises(SpecMismatch, match=said):
        DataSpec.from_plain(old, "old.ckpt")


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (replace(SPEC, slice_thickness=None), ["slice_thickness: 5.0 ≠ None"]),
        (replace(SPEC, averaging="gaussian"), ["averaging: masked mean ≠ gaussian"]),
        (replace(SPEC, phases="two frames"), ["phases: local linear fit ≠ two frames"]),
        (replace(SPEC, spacing=2.0), ["spacing: 1.0 ≠ 2.0"]),
        (replace(SPEC, size=(96, 112)), ["size: [192, 224] ≠ [96, 112]"]),
        (replace(SPEC, source=(PHASE, BASELINE)), ["source channels: ['baseline', 'phase'] ≠ ['phase', 'baseline']"]),
        (replace(SPEC, target=(DWI,)), ["target channels: ['dwi', 'adc'] ≠ ['dwi']"]),
        (
            replace(SPEC, target=(DWI, Channel("adc", Linear("10⁻⁶ mm²/s", 0.0, 2500.0)))),
            ["scaling of target adc", "3000", "2500"],
        ),
        (
            replace(SPEC, target=(DWI, Channel("adc", Linear("mm²/s", 0.0, 3000.0)))),
            ["scaling of target adc", "10⁻⁶ mm²/s", "'mm²/s'"],
        ),
    ],
)
def test_a_difference_is_refused_with_both_values(other: DataSpec, named: list[str]) -> None:
    with pytest.raises(SpecMismatch) as error:
        _require(other)
    for text in (*named, "the store", "the checkpoint", "train again"):
        assert text in str(error.value)


def test_every_difference_is_listed_at_once() -> None:
    other = DataSpec(
        (Channel("baseline", Linear("HU", 0.0, 100.0)),), (Channel("dwi", Linear("a.u.", 0.0, 1.0)),), 2.0, (96, 112)
    )
    with pytest.raises(SpecMismatch) as error:
        _require(other)
    for text in (
        "spacing",
        "size",
        "source channels",
        "target channels",
        "scaling of source baseline",
        "scaling of target dwi",
    ):
        assert text in str(error.value)
