"""`ctp-ldm demo`: phantom → store → three stages → base, control and post-trained model on the same patients."""

from pathlib import Path

from ctp_ldm.commands import run_command
from ctp_ldm.commands.compare import compare
from ctp_ldm.commands.phantom import phantom
from ctp_ldm.stages import run_stage

ROOT = Path("runs/demo")
BASE = ["--config", "demo/diffusion.yaml"]
POSTTRAIN = ["--config", "demo/posttrain.yaml"]
CONTROL = [*POSTTRAIN, "--config", "demo/control.yaml"]
STAGES = [
    ["fit", "--config", "demo/autoencoder.yaml"],
    ["fit", *BASE],
    ["fit", *CONTROL],
    ["fit", *POSTTRAIN],
    ["test", *BASE],
    ["test", *CONTROL],
    ["test", *POSTTRAIN],
]


def demo(cases: int = 40, seed: int = 0) -> None:
    """Run the whole system on simulated patients, on two CPU cores, in about six minutes.

    Everything lies under runs/demo; an interrupted demo goes on where it was.

    Args:
        cases: simulated patients.
        seed: of the patients.
    """
    simulated, store, comparison = ROOT / "phantom", ROOT / "store", ROOT / "comparison"
    _say(1, f"phantom {simulated} --preset demo --cases {cases} --seed {seed}")
    phantom(simulated, preset="demo", cases=cases, seed=seed)
    _say(2, f"prepare {simulated} {store} --config demo/posttrain.yaml")
    run_command("prepare", [str(simulated), str(store), "--config", "demo/posttrain.yaml"])
    for number, stage in enumerate(STAGES, 3):
        _say(number, " ".join(stage))
        run_stage(stage)
    runs = [ROOT / name for name in ("control", "diffusion", "posttrain")]
    _say(len(STAGES) + 3, f"compare '[{', '.join(map(str, runs))}]' {comparison}")
    compare(runs, comparison)
    print(
        f"\nEverything is in {ROOT}. These are small models of simulated patients: the demo shows that the system "
        "runs, and claims no winner beyond the intervals above."
    )


def _say(number: int, command: str) -> None:
    print(f"\n[{number}/{len(STAGES) + 3}] ctp-ldm {command}", flush=True)
