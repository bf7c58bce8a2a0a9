"""`ctp-ldm demo`: phantom → store → three stages, a reader and a rival → all of them on the same patients → report."""

from pathlib import Path

from ctp_ldm.commands import run_command
from ctp_ldm.commands.compare import compare
from ctp_ldm.commands.phantom import phantom
from ctp_ldm.commands.report import report
from ctp_ldm.stages import run_stage

ROOT = Path("runs/demo")
BASE = ["--config", "demo/diffusion.yaml"]
POSTTRAIN = ["--config", "demo/posttrain.yaml"]
CONTROL = [*POSTTRAIN, "--config", "demo/control.yaml"]
SEGMENTER = ["--config", "demo/segmenter.yaml"]
DIRECT = [*SEGMENTER, "--config", "demo/direct.yaml"]
READ = ["--segmenter", str(ROOT / "segmenter/checkpoints/best.ckpt")]
STAGES = [
    ["fit", "--config", "demo/autoencoder.yaml"],
    ["fit", *BASE],
    ["fit", *CONTROL],
    ["fit", *POSTTRAIN],
    ["fit", *SEGMENTER],
    ["fit", *DIRECT],
    ["test", *BASE, *READ],
    ["test", *CONTROL, *READ],
    ["test", *POSTTRAIN, *READ],
    ["test", *DIRECT],
]


def demo(cases: int = 40, seed: int = 0) -> None:
    """Run the whole system on simulated patients, on two CPU cores, in about seven minutes.

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
    _say(len(STAGES) + 3, f"compare {' '.join(map(str, runs))} --out {comparison}")
    compare(runs, comparison)
    runs.append(ROOT / "direct")
    _say(len(STAGES) + 4, f"report {' '.join(map(str, runs))} --out {ROOT / 'report'}")
    report(runs, ROOT / "report")
    print(
        f"\nEverything is in {ROOT}; open {ROOT / 'report/index.html'} in a browser. These are small models of "
        "simulated patients: the demo shows that the system runs, and claims no winner beyond the intervals above."
    )


def _say(number: int, command: str) -> None:
    print(f"\n[{number}/{len(STAGES) + 4}] ctp-ldm {command}", flush=True)
