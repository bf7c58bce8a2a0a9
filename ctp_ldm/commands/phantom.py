"""`ctp-ldm phantom`."""

from pathlib import Path

from ctp_ldm.phantom import PRESETS, PresetName, SizeName, changed, describe_phantom, simulate_from_mri, write_phantom


def phantom(
    out: Path,
    preset: PresetName = "demo",
    cases: int | None = None,
    parts: tuple[int, int, int] | None = None,
    seed: int | None = None,
    size: SizeName | None = None,
    mix: dict[str, float | str] | None = None,
    from_mri: Path | None = None,
    describe: bool = False,
    workers: int = 2,
) -> None:
    """Write an ISLES'24-style tree of simulated patients, with the truth beside it and a split by patient.

    Args:
        out: folder, made when missing; an interrupted run goes on.
        preset: demo (160 patients, those of `ctp-ldm demo`), standard (300 to train, 50 to validate, 150 to test),
            outcome (the same, with MRI days after treatment) or stress (100 patients, every rare thing often).
        cases: number of patients, where it is another.
        parts: how many of them train, validate and test, where it is other shares; their sum unless --cases is given.
        seed: the same seed gives the same voxels, where it is another than the preset's.
        size: tiny for tests, small, standard (2 mm, 5 mm slices), full for the published grid, where it is another.
        mix: shares of patients that are others than the preset's, such as --mix.lesion_free 0.4: emboli, lacune,
            hypoperfusion, lesion_free (they exclude one another; the rest are strokes of large arteries), reperfused,
            old_infarct, leukoaraiosis, truncated, late; and mri, early or follow-up.
        from_mri: real patients instead: an ISLES'22 tree, or a folder of dwi, adc and lesion, in 5 mm slices.
            Their CT is simulated; cases, parts and size do not apply.
        describe: measure simulated patients (400 strokes of large arteries unless told, half as many lacunes) against
            what is published instead of writing them; a table and figures come into `out`.
        workers: processes.
    """
    chosen = PRESETS[preset]
    seed = chosen.seed if seed is None else seed
    shares_of_kinds = changed(chosen.mix, mix or {})
    if describe:
        if from_mri is not None:
            raise ValueError("--describe and --from-mri do not go together: only simulated patients are described")
        describe_phantom(out, shares_of_kinds, 400 if cases is None else cases, seed, size or chosen.size, workers)
        return
    if from_mri is not None:
        if cases is not None or size is not None or parts is not None:
            raise ValueError(
                "--cases, --parts and --size do not apply to --from-mri: patients and grid are those of the MRI"
            )
        folders = simulate_from_mri(from_mri, out, seed=seed, workers=workers, mix=shares_of_kinds)
        print(f"{len(folders)} real patient{'s' if len(folders) != 1 else ''} with simulated CT: {out}")
        return
    shares = parts or chosen.parts
    if min(shares) < 0 or not any(shares):
        raise ValueError(f"--parts {list(shares)}; expected three numbers of patients, none below 0 and not all 0")
    count = sum(shares) if cases is None else cases
    write_phantom(out, count, seed, size or chosen.size, workers, shares_of_kinds, shares)
    print(f"{count} simulated patients: {out}; their split: {out / 'split.json'}")
