"""`ctp-ldm demo`: phantom → store → three stages → base, control and post-trained model on the same patients."""

from pathlib import Path

CASES = 48


def demo(cases: int = CASES, seed: int = 0) -> None:
    """Run the whole system on simulated patients, on two CPU cores, in about ten minutes.

    Everything lies under runs/demo; an interrupted demo goes on where it was.

    Args:
        cases: simulated patients.
        seed: of the patients.
    """
    # Here, because the command line imports the commands.
    from ctp_ldm.cli import run

    root = Path("runs/demo")
    steps: list[list[str]] = [
        ["phantom", str(root / "phantom"), "--cases", str(cases), "--seed", str(seed), "--size", "small"],
        ["prepare", str(root / "phantom"), str(root / "store"), "--spacing", "2", "--size", "[96, 112]"],
        ["fit", "--config", "demo/autoencoder.yaml"],
        ["fit", "--config", "demo/diffusion.yaml"],
        ["fit", "--config", "demo/posttrain.yaml", "--config", "demo/control.yaml"],
        ["fit", "--config", "demo/posttrain.yaml"],
        ["test", "--config", "demo/diffusion.yaml"],
        ["test", "--config", "demo/posttrain.yaml", "--config", "demo/control.yaml"],
        ["test", "--config", "demo/posttrain.yaml"],
    ]
    for i, step in enumerate(steps, 1):
        print(f"\n[{i}/{len(steps) + 1}] ctp-ldm {' '.join(step)}", flush=True)
        run(step)
    runs = [str(root / name) for name in ("diffusion", "control", "posttrain")]
    print(f"\n[{len(steps) + 1}/{len(steps) + 1}] ctp-ldm compare {' '.join(runs)}", flush=True)
    run(["compare", f"[{', '.join(runs)}]", str(root / "comparison")])
    print(
        f"\nEverything is in {root}. This is a small model of simulated patients: it shows that the system runs, and "
        "claims no winner beyond the intervals above."
    )
