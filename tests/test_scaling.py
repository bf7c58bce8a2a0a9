"""Physical values and [−1, 1]: exact inverses inside the range, clipped outside it."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ctp_ldm.scaling import Linear, Scaling, SymmetricLog, scaling_from_plain

SCALINGS = [
    Linear("HU", 0.0, 80.0),
    Linear("10⁻⁶ mm²/s", 0.0, 3000.0),
    Linear("a.u.", -5.0, -1.0),
    SymmetricLog("HU", knee=5.0, limit=200.0),
    SymmetricLog("s", knee=0.3, limit=2.0),
]
every_scaling = pytest.mark.parametrize("scaling", SCALINGS, ids=lambda s: f"{s.kind}-{s.unit}")


def _range(scaling: Scaling) -> tuple[float, float]:
    return (scaling.low, scaling.high) if isinstance(scaling, Linear) else (-scaling.limit, scaling.limit)


@every_scaling
@given(share=st.floats(0, 1))
def test_decoding_undoes_encoding_inside_the_range(scaling: Scaling, share: float) -> None:
    low, high = _range(scaling)
    value = np.array(low + share * (high - low))
    encoded = scaling.encode(value)
    assert -1 <= encoded <= 1
    np.testing.assert_allclose(scaling.decode(encoded), value, atol=1e-12 * (high - low))


@every_scaling
@given(encoded=st.floats(-1, 1))
def test_encoding_undoes_decoding(scaling: Scaling, encoded: float) -> None:
    np.testing.assert_allclose(scaling.encode(scaling.decode(np.array(encoded))), encoded, atol=1e-12)


@every_scaling
def test_arrays_and_tensors_get_the_same_numbers_shape_and_precision(scaling: Scaling) -> None:
    low, high = _range(scaling)
    physical = np.linspace(low - 1, high + 1, 60, dtype=np.float32).reshape(3, 4, 5)
    encoded = np.linspace(-1, 1, 60, dtype=np.float32).reshape(3, 4, 5)
    for function, values in ((scaling.encode, physical), (scaling.decode, encoded)):
        array, tensor = function(values), function(torch.from_numpy(values))
        assert array.dtype == np.float32
        assert tensor.dtype == torch.float32
        assert array.shape == tuple(tensor.shape) == (3, 4, 5)
        np.testing.assert_allclose(tensor.numpy(), array, rtol=1e-5, atol=1e-6)


@every_scaling
@pytest.mark.parametrize("beyond", [1e-3, 1.0, 1e6])
def test_values_outside_the_range_are_clipped_to_its_ends(scaling: Scaling, beyond: float) -> None:
    low, high = _range(scaling)
    values = np.array([low - beyond, high + beyond])
    np.testing.assert_array_equal(scaling.encode(values), [-1, 1])
    np.testing.assert_array_equal(scaling.encode(torch.from_numpy(values)).numpy(), [-1, 1])


@every_scaling
def test_a_larger_value_is_never_encoded_lower(scaling: Scaling) -> None:
    low, high = _range(scaling)
    inside = scaling.encode(np.linspace(low, high, 1001))
    assert (np.diff(inside) > 0).all()


@every_scaling
def test_span_is_the_width_of_the_range(scaling: Scaling) -> None:
    low, high = _range(scaling)
    assert scaling.span == pytest.approx(high - low)


@pytest.mark.parametrize(
    ("scaling", "background"),
    [
        (Linear("HU", 0.0, 80.0), -1.0),
        (Linear("HU", -40.0, 40.0), 0.0),
        (Linear("HU", -10.0, 30.0), -0.5),
        (Linear("HU", 10.0, 30.0), -1.0),
        (SymmetricLog("HU", 5.0, 200.0), 0.0),
    ],
)
def test_background_is_where_physical_zero_goes(scaling: Scaling, background: float) -> None:
    assert scaling.background == pytest.approx(background)


@given(low=st.floats(-1e4, 1e4), width=st.floats(1e-2, 1e4), share=st.floats(0, 1))
def test_linear_is_straight_interpolation(low: float, width: float, share: float) -> None:
    value = low + share * width
    expected = np.interp(value, [low, low + width], [-1, 1])
    assert Linear("x", low, low + width).encode(np.array(value)) == pytest.approx(expected, abs=1e-6)


def test_symmetric_log_has_its_closed_form_and_is_odd() -> None:
    scaling = SymmetricLog("HU", knee=5.0, limit=200.0)
    for value in (0.1, 3.0, 5.0, 60.0, 200.0):
        expected = math.log(1 + value / 5) / math.log(41)
        assert scaling.encode(np.array(value)) == pytest.approx(expected)
        assert scaling.encode(np.array(-value)) == pytest.approx(-expected)


def test_symmetric_log_shows_white_matter_beside_arteries() -> None:
    """The reason it is there: 4 HU are 2 % of a linear range up to 200 HU."""
    assert SymmetricLog("HU", 5.0, 200.0).encode(np.array(4.0)) > 0.15


@every_scaling
def test_plain_data_survives_json(scaling: Scaling) -> None:
    assert scaling_from_plain(json.loads(json.dumps(scaling.to_plain()))) == scaling


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (2.0, 1.0), (float("nan"), 1.0), (0.0, float("nan"))])
def test_linear_refuses_an_empty_range(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="low < high"):
        Linear("HU", low, high)


@pytest.mark.parametrize(("knee", "limit"), [(0.0, 1.0), (-1.0, 1.0), (1.0, 0.0), (float("nan"), 1.0)])
def test_symmetric_log_refuses_what_has_no_logarithm(knee: float, limit: float) -> None:
    with pytest.raises(ValueError, match="knee > 0 and limit > 0"):
        SymmetricLog("HU", knee, limit)


@pytest.mark.parametrize("plain", [{"kind": "cubic", "unit": "HU"}, {"unit": "HU"}])
def test_unknown_kinds_are_refused_with_the_known_ones(plain: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"'linear', 'symmetric_log'"):
        scaling_from_plain(plain)
