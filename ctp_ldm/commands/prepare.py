"""`ctp-ldm prepare`."""

from pathlib import Path

from jsonargparse import lazy_instance

from ctp_ldm.data import CTPToDiffusionMRI, Fingerprint, TranslationDataModule, in_one_line
from ctp_ldm.data import prepare as prepare_store


def prepare(
    source: Path,
    store: Path,
    data: TranslationDataModule = lazy_instance(CTPToDiffusionMRI),
    fingerprint: Path | None = None,
    sources_only: bool = False,
    skip_invalid: bool = False,
    verify: bool = False,
    workers: int = 2,
) -> None:
    """Bring a data set to one grid and scaling, and write the slice store that training reads.

    The data section of a stage's config says how (`--config posttrain.yaml`), or single options do: `--data.spacing 2`.

    Args:
        source: the data set.
        store: folder to write; an interrupted run goes on, new cases are added.
        data: DataModule that declares sources, targets, layout and grid.
        fingerprint: what `ctp-ldm check --json` wrote; its faults are told before any work, its units decide where a
            file does not tell its own, and files that changed since are refused.
        sources_only: cases without target or lesion mask are welcome; they can be predicted, not trained on.
        skip_invalid: leave cases with faults out, and say which.
        verify: compare what is in the store with its checksums, and make damaged cases anew.
        workers: processes.
    """
    known = None if fingerprint is None else Fingerprint.read(fingerprint)
    settings = data.settings_for(sources_only)
    finished, faults = prepare_store(
        source, store, data.task, data.layout, settings, workers, skip_invalid, known, verify
    )
    for fault in faults:
        print(f"left out: {fault}")
    for record in finished.records.values():
        for remark in record.remarks:
            print(f"{record.name}: {remark}")
    if told := in_one_line(record.resampling for record in finished.records.values()):
        print(told)
    slices = sum(n > 0 for r in finished.records.values() for n in r.brain_voxels)
    print(f"{len(finished.records)} cases, {slices} slices with brain: {store}")
