"""What a task reads, and which combinations of roles and units it refuses."""

import pytest

from ctp_ldm.data import CBF, ApparentDiffusion, CTPerfusion, CTPToDiffusionMRI, Quantity, RelativeDWI, RobustRange
from ctp_ldm.data.task import Task

CTP: dict[str, Quantity] = {"ctp": CTPerfusion()}
BOTH: dict[str, Quantity] = {"dwi": RelativeDWI(), "adc": ApparentDiffusion()}


def test_the_task_of_the_paper_reads_five_files() -> None:
    task = CTPToDiffusionMRI().task
    assert sorted(task.roles) == ["adc", "brain", "ctp", "dwi", "lesion"]
    assert task.needs_lesion
    assert next(iter(task.sources)) == "ctp"


@pytest.mark.parametrize(
    ("targets", "adc"),
    [({"dwi": RelativeDWI()}, True), ({"dwi": RelativeDWI("b0")}, False), ({"dwi": RelativeDWI(None)}, False)],
)
def test_a_companion_is_read_and_makes_no_channel(targets: dict[str, Quantity], adc: bool) -> None:
    task = Task(CTP, targets)
    assert ("adc" in task.roles) == adc
    assert [channel.name for channel in task.spec(1.0, (32, 32)).target] == ["dwi"]


def test_companions_are_converted_before_what_looks_at_them() -> None:
    order = list(Task(CTP, BOTH).quantities)
    assert order.index("adc") < order.index("dwi")
    # Channels keep the order of the targets.
    assert [channel.name for channel in Task(CTP, BOTH).spec(1.0, (32, 32)).target] == ["dwi", "adc"]


def test_a_companion_that_is_a_channel_is_read_as_the_task_says() -> None:
    task = Task(CTP, {"dwi": RelativeDWI(), "adc": ApparentDiffusion("mm2/s")})
    assert task.quantities["adc"] == ApparentDiffusion("mm2/s")


@pytest.mark.parametrize(
    ("sources", "targets", "named"),
    [
        ({"t1": RobustRange()}, {"t1": RobustRange()}, "t1"),
        ({"t1": RobustRange(), "brain": RobustRange()}, {"t2": RobustRange()}, "brain"),
        ({"t1": RobustRange()}, {"lesion": RobustRange()}, "lesion"),
    ],
)
def test_a_role_is_a_source_or_a_target_and_no_mask(
    sources: dict[str, Quantity], targets: dict[str, Quantity], named: str
) -> None:
    with pytest.raises(ValueError, match=f"{named}: a role is a source or a target; brain and lesion are neither"):
        Task(sources, targets)


def test_stated_units_reach_channels_and_companions() -> None:
    task = Task({"ctp": CTPerfusion(), "cbf": CBF()}, {"dwi": RelativeDWI()}, units={"cbf": "mL/g/min", "adc": "mm2/s"})
    assert task.quantities["cbf"] == CBF("mL/g/min")
    assert task.quantities["adc"] == ApparentDiffusion("mm2/s")
    assert task.quantities["ctp"] == CTPerfusion()


@pytest.mark.parametrize("role", ["dwi", "brain", "t1"])
def test_a_unit_for_a_role_that_has_none_is_refused_with_those_that_have_one(role: str) -> None:
    with pytest.raises(ValueError, match=rf"no unit can be stated for {role}; only for adc, ctp"):
        Task(CTP, BOTH, units={role: "s"})


def test_only_open_units_are_filled_in() -> None:
    task = Task({"ctp": CTPerfusion(), "cbf": CBF("mL/g/min")}, BOTH, units={"adc": "mm2/s"})
    filled = task.stating({"ctp": "HU", "cbf": "mL/100 g/min", "adc": "1e-6 mm2/s", "dwi": "a.u.", "t1": "s"})
    assert dict(filled.units) == {"adc": "mm2/s", "ctp": "HU"}
    assert filled.quantities["cbf"] == CBF("mL/g/min")
    assert filled.spec(1.0, (32, 32)) == task.spec(1.0, (32, 32))
