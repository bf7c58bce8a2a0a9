"""`ctp-ldm check`."""

from pathlib import Path

from jsonargparse import lazy_instance

from ctp_ldm import data as datasets
from ctp_ldm.data import CTPToDiffusionMRI, SliceStore, TranslationDataModule
from ctp_ldm.data.store import MANIFEST, StoreError
from ctp_ldm.report import show_findings, write_findings


def check(
    root: Path,
    data: TranslationDataModule = lazy_instance(CTPToDiffusionMRI),
    json: Path | None = None,
    csv: Path | None = None,
    sources_only: bool = False,
    workers: int = 2,
) -> None:
    """Look at every case of a data set: faults, remarks and a table; or compare a slice store with its checksums.

    Ends with an error when a case has a fault. `--config posttrain.yaml` checks what that config would read.

    Args:
        root: the data set, or a slice store.
        data: DataModule that declares sources, targets, layout and grid.
        json: file for the fingerprint of the data set: every case's facts, their ranges and units. `prepare` reads it.
        csv: file for the facts, a line for each case.
        sources_only: cases without target or lesion mask are welcome.
        workers: processes.
    """
    if (root / MANIFEST).is_file():
        _verify(SliceStore(root))
        return
    settings = data.settings_for(sources_only)
    fingerprint = datasets.check(root, data.task, data.layout, settings, workers)
    show_findings(fingerprint)
    if json is not None:
        fingerprint.write(json)
        print(f"fingerprint: {json}")
    if csv is not None:
        write_findings(fingerprint, csv)
        print(f"table: {csv}")
    datasets.require_good(fingerprint)
    print(f"{len(fingerprint.cases)} cases without fault: {root}")


def _verify(store: SliceStore) -> None:
    faults = store.verify()
    if faults:
        raise StoreError("\n  ".join([f"{len(faults)} damaged file(s):", *faults]))
    print(f"{len(store.records)} cases as they were written: {store.path}")
