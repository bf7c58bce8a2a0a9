"""How the project's own commands take their words."""

import pytest

from ctp_ldm.cli import _options


def command(source: str, skip_invalid: bool = False, frame_interval: float = 1.0) -> None:
    """Stands for a command."""


@pytest.mark.parametrize(
    ("given", "understood"),
    [
        ([], []),
        (["tree"], ["tree"]),
        (["tree", "--skip-invalid"], ["tree", "--skip_invalid=true"]),
        (["--skip-invalid", "tree"], ["--skip_invalid=true", "tree"]),
        (["--skip_invalid", "false"], ["--skip_invalid", "false"]),
        (["--skip-invalid=false"], ["--skip_invalid=false"]),
        (["--frame-interval", "1.5", "a-b"], ["--frame_interval", "1.5", "a-b"]),
        (["--frame-interval=-1", "--help"], ["--frame_interval=-1", "--help"]),
    ],
)
def test_dashes_and_switches(given: list[str], understood: list[str]) -> None:
    assert _options(command, given) == understood
