"""`ctp-ldm ablate`."""

from pathlib import Path

from ctp_ldm.commands.reproduce import OUT, SizeName, default_size
from ctp_ldm.experiments import Study, read_ablations, read_protocol, write_ablation


def ablate(
    arm: str, out: Path = OUT, size: SizeName | None = None, jobs: int | None = None, table_only: bool = False
) -> None:
    """Vary one choice of the study, on the patients of development; configs/reproduce/ablations.yaml says which.

    Args:
        arm: name of the choice, such as weights; list says which there are.
        out: folder of everything; results lie in OUT/SIZE/development/ablations.
        size: small (two CPU cores) or standard (one GPU); what the machine can do unless given.
        jobs: variants that run side by side.
        table_only: make table and figure from the JSON files that are there, and run nothing.
    """
    protocol, size = read_protocol(), size or default_size()
    ablations = read_ablations(protocol)
    listing = "\n".join(f"  {name:16} {ablation.question}" for name, ablation in ablations.items())
    if arm == "list":
        print(listing)
        return
    if arm not in ablations:
        raise ValueError(f"{arm} is no choice of ablations.yaml; expected one of\n{listing}")
    ablation = ablations[arm]
    if ablation.sizes is not None and size not in ablation.sizes:
        raise ValueError(f"the variants of {arm} are of size {' or '.join(ablation.sizes)}; found --size {size}")
    varied, judged = ablation.parts(arm, protocol)
    study = Study(varied, size, "development", out / size / "development", jobs)
    try:
        if not table_only:
            study.make(judged.values())
    finally:  # what has failed does not hide what is there
        if page := write_ablation(study, arm, ablation, judged):
            print(f"table: {page[0]}\nfigure: {page[1]}\none JSON for each variant: {study.root / 'parts'}")
