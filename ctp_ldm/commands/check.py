"""`ctp-ldm check`."""

from pathlib import Path

from ctp_ldm import data
from ctp_ldm.data import ISLES24, CTPToDiffusionMRI, Layout, Settings, TranslationDataModule


def check(
    root: Path,
    task: type[TranslationDataModule] = CTPToDiffusionMRI,
    layout: Layout = ISLES24(),
    spacing: float = 1.0,
    size: tuple[int, int] = (192, 224),
    frame_interval: float | None = None,
    sources_only: bool = False,
    workers: int = 2,
) -> None:
    """Read and check every case of a data set; report all faults at once.

    Args:
        root: folder of NIfTI cases.
        task: DataModule that declares sources and targets.
        layout: how cases are found.
        spacing: in-plane voxel size, mm.
        size: in-plane size (left–right, back–front), voxels.
        frame_interval: seconds between CTP frames, for files that do not say.
        sources_only: cases without MRI or lesion mask are welcome.
        workers: processes.
    """
    names = data.check(root, task.task(), layout, Settings(spacing, size, frame_interval, sources_only), workers)
    print(f"{len(names)} cases without fault: {root}")
