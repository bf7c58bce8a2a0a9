"""`ctp-ldm demo`: phantom → store → three stages, a reader and a rival → all of them on the same patients → report."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from typing import Self

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ctp_ldm.commands import run_command
from ctp_ldm.commands.compare import compare
from ctp_ldm.commands.phantom import phantom
from ctp_ldm.commands.report import report
from ctp_ldm.experiments.running import Processes, stopped_by_signals
from ctp_ldm.report.runs import read_run
from ctp_ldm.stages import run_stage

ROOT = Path("runs/demo")
LOGS = ROOT / "logs"
AUTOENCODER = ["--config", "demo/autoencoder.yaml"]
BASE = ["--config", "demo/diffusion.yaml"]
POSTTRAIN = ["--config", "demo/posttrain.yaml"]
CONTROL = [*POSTTRAIN, "--config", "demo/control.yaml"]
SEGMENTER = ["--config", "demo/segmenter.yaml"]
DIRECT = [*SEGMENTER, "--config", "demo/direct.yaml"]
READ = ["--segmenter", str(ROOT / "segmenter/checkpoints/best.ckpt")]
FALSE_ML = 7.5
"""Mean false lesion volume that cut-offs are chosen for, a quarter below the 10 mL that the demo wants at most."""
CEILINGS = {
    "segmenter": "the segmenter on real images",
    "autoencoder": "the segmenter on the autoencoder's reconstructions",
}


def demo(cases: int | None = None, seed: int = 0) -> None:
    """Run the whole system on simulated patients, on two CPU cores, in about a quarter of an hour.

    Everything lies under runs/demo; an interrupted demo goes on where it was.

    Args:
        cases: simulated patients, two thirds of whom train, where they are not those of the phantom's preset `demo`.
        seed: of the patients.
    """
    tree, store = ROOT / "phantom", ROOT / "store"
    with stopped_by_signals(), _Workshop() as workshop:
        fewer = "" if cases is None else f" --cases {cases}"
        with workshop.timed(f"phantom {tree} --preset demo{fewer} --seed {seed}"):
            phantom(tree, preset="demo", cases=cases, seed=seed)
        with workshop.timed(f"prepare {tree} {store} --config demo/posttrain.yaml"):
            run_command("prepare", [str(tree), str(store), "--config", "demo/posttrain.yaml"])
        # Two lines of work that meet where one needs what the other made.
        reader = workshop.beside(["fit", *SEGMENTER])
        workshop.beside(["fit", *DIRECT])
        for stage in _judged(DIRECT):
            workshop.beside(stage)
        workshop.run(["fit", *AUTOENCODER])
        workshop.beside(["test", *SEGMENTER])
        workshop.beside(["test", *AUTOENCODER, *READ])
        workshop.run(["fit", *BASE])
        workshop.beside(["fit", *CONTROL])
        for stage in _judged(CONTROL, READ):
            workshop.beside(stage)
        workshop.run(["fit", *POSTTRAIN])
        reader.result()
        for stage in (*_judged(POSTTRAIN, READ), *_judged(BASE, READ)):
            workshop.run(stage)
        workshop.wait()
        runs = [ROOT / name for name in ("control", "diffusion", "posttrain", "direct")]
        names = " ".join(map(str, runs))
        with workshop.timed(f"compare {names} --out {ROOT / 'comparison'}"):
            compare(runs, ROOT / "comparison")
        with workshop.timed(f"report {names} --out {ROOT / 'report'}"):
            report(runs, ROOT / "report")
    workshop.show()
    _say_the_end()


class _Workshop:
    """Runs stages one after another here, and others beside them in processes of their own; keeps the time of all.

    What comes from other stages than the one in the foreground is in runs/demo/logs.
    """

    def __init__(self) -> None:
        self._cores = torch.get_num_threads()
        self._processes = Processes(max(1, self._cores // 2))
        self._threads = ThreadPoolExecutor(1)
        self._beside: list[Future[None]] = []
        self._times: list[tuple[str, str, float]] = []
        self._start = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for future in self._beside:
            future.cancel()
        self._processes.leave()
        self._threads.shutdown()
        torch.set_num_threads(self._cores)

    def beside(self, stage: Sequence[str]) -> Future[None]:
        """Run a stage when those beside that were asked for before have ended."""

        def work() -> None:
            start = time.monotonic()
            self._processes.run(stage, _log(stage))
            self._times.append((_title(stage), "beside", time.monotonic() - start))

        self._beside.append(self._threads.submit(work))
        return self._beside[-1]

    def run(self, stage: Sequence[str]) -> None:
        """Run a stage here, with all cores where nothing runs beside it.

        Raises:
            PartFailed: a stage beside it had failed.
        """
        self._raise_failures()
        alone = all(future.done() for future in self._beside)
        torch.set_num_threads(self._cores if alone else max(1, self._cores // 2))
        with ExitStack() as around:
            around.enter_context(self.timed(" ".join(stage), _title(stage)))
            if stage[0] != "fit":  # its long table is not what the demo ends with
                LOGS.mkdir(parents=True, exist_ok=True)
                around.enter_context(redirect_stdout(around.enter_context(_log(stage).open("a"))))
            run_stage(stage)

    def wait(self) -> None:
        """For what runs beside.

        Raises:
            PartFailed: one of them failed.
        """
        if not all(future.done() for future in self._beside):
            print(f"\n[{self._minutes()}] waiting for what runs beside; its output is in {LOGS}", flush=True)
        for future in self._beside:
            future.result()

    @contextmanager
    def timed(self, command: str, title: str | None = None) -> Iterator[None]:
        """Say what is run, and keep how long it took."""
        print(f"\n[{self._minutes()}] ctp-ldm {command}", flush=True)
        start = time.monotonic()
        yield
        self._times.append((title or command.split()[0], "", time.monotonic() - start))

    def show(self) -> None:
        """Where the time went."""
        table = Table(title=f"{self._minutes()} minutes", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        for heading in ("seconds", "stage"):
            table.add_column(heading, justify="right" if heading == "seconds" else "left")
        for title, where, seconds in self._times:
            table.add_row(f"{seconds:.0f}", f"{title} ({where})" if where else title)
        Console().print(table)

    def _raise_failures(self) -> None:
        for future in self._beside:
            if future.done():
                future.result()

    def _minutes(self) -> str:
        minutes, seconds = divmod(round(time.monotonic() - self._start), 60)
        return f"{minutes}:{seconds:02}"


def _judged(model: Sequence[str], reader: Sequence[str] = ()) -> list[list[str]]:
    """The stages that choose a model's cut-off on the validation patients, and test it there: all are as careful."""
    return [
        ["validate", *model, *reader, "--cutoff_false_ml", str(FALSE_ML)],
        ["test", *model, *reader, "--cutoff", "validated"],
    ]


def _title(stage: Sequence[str]) -> str:
    """A stage's command without what is the same for all."""
    same = ("--config", *READ, "--cutoff", "validated", "--cutoff_false_ml", str(FALSE_ML))
    return " ".join(word for word in stage if word not in same)


def _log(stage: Sequence[str]) -> Path:
    return LOGS / f"{_title(stage).replace('demo/', '').replace('.yaml', '').replace(' ', '-')}.log"


def _say_the_end() -> None:
    for run, who in CEILINGS.items():
        means = read_run(ROOT / run).patients.mean()
        print(
            f"ceiling, {who}: detects {means['detected_10ml']:.2f} of the lesions of at least 10 mL, "
            f"Dice {means['lesion_dice']:.3f}, false lesion {means['false_ml']:.1f} mL"
        )
    print(
        f"""
picture: {ROOT / "comparison/comparison.png"}
page:    {ROOT / "report/index.html"} (open it in a browser)
table:   {ROOT / "comparison/comparison.md"}

Next: look at a training run,  tensorboard --logdir {ROOT}
      predict NIfTI volumes,   ctp-ldm predict --config demo/posttrain.yaml
      check data of your own,  ctp-ldm check DATA --config demo/posttrain.yaml

Small models of simulated patients: these figures say what the system does, not what it would do to real ones."""
    )
