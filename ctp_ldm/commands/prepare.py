"""`ctp-ldm prepare`."""

from pathlib import Path

from ctp_ldm import data
from ctp_ldm.data import ISLES24, CTPToDiffusionMRI, Layout, Settings, TranslationDataModule


def prepare(
    source: Path,
    store: Path,
    task: type[TranslationDataModule] = CTPToDiffusionMRI,
    layout: Layout = ISLES24(),
    spacing: float = 1.0,
    size: tuple[int, int] = (192, 224),
    frame_interval: float | None = None,
    sources_only: bool = False,
    skip_invalid: bool = False,
    workers: int = 2,
) -> None:
    """Bring a data set to one grid and scaling, and write the slice store that training reads.

    Args:
        source: folder of NIfTI cases.
        store: folder to write; an interrupted run goes on, new cases are added.
        task: DataModule that declares sources and targets.
        layout: how cases are found.
        spacing: in-plane voxel size, mm; through-plane spacing is kept.
        size: in-plane size (left–right, back–front), voxels.
        frame_interval: seconds between CTP frames, for files that do not say.
        sources_only: cases without MRI or lesion mask are welcome; they can be predicted, not trained on.
        skip_invalid: leave cases with faults out, and say which.
        workers: processes.
    """
    settings = Settings(spacing, size, frame_interval, sources_only)
    finished, faults = data.prepare(source, store, task.task(), layout, settings, workers, skip_invalid)
    for fault in faults:
        print(f"left out: {fault}")
    slices = sum(n > 0 for r in finished.records.values() for n in r.brain_voxels)
    print(f"{len(finished.records)} cases, {slices} slices with brain: {store}")
