"""Real MRI with a simulated CT: on a real patient, on ellipsoids, and on phantoms, whose tissue is known."""

import csv
import json
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion, binary_fill_holes

from ctp_ldm.phantom import Mix, ct, mri, simulate_from_mri
from ctp_ldm.phantom.files import patient_files
from ctp_ldm.phantom.grid import Grid
from ctp_ldm.phantom.parallel import shared_atlas
from ctp_ldm.phantom.real.files import Mri, find_patients, read_patient
from ctp_ldm.phantom.real.head import build_real_head
from ctp_ldm.phantom.real.segmentation import brain_mask, segment
from ctp_ldm.phantom.real.slab import thick_slices
from ctp_ldm.phantom.simulate import scan_mri

from .conftest import Simulated

MIX = Mix(reperfused=0, late=0, truncated=0)
SHAPE, SPACING = (60, 68, 56), (3.5, 3.5, 2.5)
AFFINE = np.diag([-3.5, 3.5, 2.5, 1.0])
AFFINE[:3, 3] = 103.25, -130.0, -60.0
KINDS = {"dwi": "dwi", "adc": "adc", "lesion": "msk"}


def _radius(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
    """1 on the surface of an ellipsoid, in RAS mm."""
    world = Grid(SHAPE, SPACING, AFFINE).world()
    shift, size = (np.reshape(v, (3, 1, 1, 1)) for v in (centre, radii))
    return np.linalg.norm((world - shift) / size, axis=0)


BRAIN = _radius((0, -15, 10), (64, 80, 58)) < 1
WHITE = _radius((0, -15, 10), (50, 66, 44)) < 1
FLUID = (_radius((12, -15, 18), (8, 26, 12)) < 1) | (_radius((-12, -15, 18), (8, 26, 12)) < 1)
LESION = (_radius((-42, -10, 10), (14, 20, 14)) < 1) & ~FLUID


def _real_patient(lesion: bool = True) -> dict[str, np.ndarray]:
    """Images of an ellipsoid brain: a rim of grey matter, white within, two ventricles, an infarct on the left."""
    rng = np.random.default_rng(0)
    ill = LESION & lesion
    b0 = np.select([~BRAIN, FLUID, WHITE], [0, mri.CSF_B0, mri.WHITE_B0], mri.GREY_B0) * np.where(ill, 1.2, 1.0)
    adc = np.select([~BRAIN, FLUID, ill, WHITE], [0, mri.CSF_ADC, 500, mri.WHITE_ADC], mri.GREY_ADC)
    adc = np.where(BRAIN, adc + 40 * rng.standard_normal(SHAPE), 0)
    dwi = 700 * b0 * np.exp(-adc / 1000) * (1 + 0.03 * rng.standard_normal(SHAPE))
    return {"dwi": dwi.astype(np.float32), "adc": (adc / 1000).astype(np.float32), "msk": ill.astype(np.uint8)}


def _save(path: Path, image: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(image, affine).to_filename(path)
    return path


def _write_isles22(source: Path, name: str, images: dict[str, np.ndarray]) -> None:
    for kind, image in images.items():
        root = source / ("derivatives" if kind == "msk" else "rawdata") / name / "ses-0001"
        _save(root / ("" if kind == "msk" else "dwi") / f"{name}_ses-0001_{kind}.nii.gz", image)


def _load(path: Path) -> np.ndarray:
    return np.asarray(nib.Nifti1Image.from_filename(path).dataobj, dtype=np.float64)


def _contents(folder: Path, name: str) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob(f"{name}*")) if p.is_file()}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("isles22")
    _write_isles22(folder, "sub-strokecase0001", _real_patient())
    _write_isles22(folder, "sub-strokecase0002", _real_patient(lesion=False))
    return folder


@pytest.fixture(scope="module")
def simulated(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("simulated") / "tree"
    simulate_from_mri(source, out, seed=1, workers=1, mix=MIX)
    return out


@dataclass
class Case:
    """The images of a tree's patient on the averaged grid, and the ellipsoids' masks there, away from borders."""

    images: dict[str, np.ndarray]
    spacing: tuple[float, ...]

    def __getitem__(self, key: str) -> np.ndarray:
        return self.images[key]


@pytest.fixture(scope="module")
def case(simulated: Path) -> Case:
    files = patient_files(simulated, "sub-strokecase0001")
    images = {kind: _load(path) for kind, path in files.items() if path.suffix == ".gz"}
    return Case(images, nib.Nifti1Image.from_filename(files["dwi"]).header.get_zooms()[:3])


def _pure(mask: np.ndarray) -> np.ndarray:
    """Averaged voxels within a region, with a margin for the misregistration."""
    inner = binary_erosion(mask)
    return inner[..., ::2] & inner[..., 1::2]


def test_tree_is_complete_and_named_as_the_source(simulated: Path) -> None:
    for name in ("sub-strokecase0001", "sub-strokecase0002"):
        assert all(path.is_file() for path in patient_files(simulated, name).values())
    with (simulated / "participants.tsv").open() as lines:
        ill, well = csv.DictReader(lines, delimiter="\t")
    assert ill["participant_id"] == "sub-strokecase0001"
    assert (ill["kind"], ill["side"], ill["territory"]) == ("territorial", "left", "MCA")
    in_both = LESION[..., ::2] & LESION[..., 1::2]
    assert float(ill["lesion_ml"]) == pytest.approx(in_both.sum() * 2 * np.prod(SPACING) / 1000, abs=0.01)
    assert well["kind"] in ("lesion-free", "hypoperfusion")
    assert float(well["lesion_ml"]) == 0
    listed = json.loads((simulated / "datalist.json").read_text())["cases"]
    assert [case["name"] for case in listed] == ["sub-strokecase0001", "sub-strokecase0002"]
    description = json.loads((simulated / "dataset_description.json").read_text())
    assert "CT is simulated" in description["Description"]
    assert str(simulated.parent) not in json.dumps(description)


def test_mri_is_the_mean_of_its_slices(case: Case) -> None:
    images = _real_patient()
    dwi, adc = ((images[kind][..., ::2].astype(float) + images[kind][..., 1::2]) / 2 for kind in ("dwi", "adc"))
    np.testing.assert_allclose(case["dwi"], dwi, atol=images["dwi"].max() / 32767)
    np.testing.assert_allclose(case["adc"], 1000 * adc, atol=0.51)
    assert np.array_equal(case["lesion"], (images["msk"][..., ::2] & images["msk"][..., 1::2]))
    assert case.spacing == pytest.approx((3.5, 3.5, 5.0))


def test_tissue_has_its_hounsfield_units(case: Case) -> None:
    hu, healthy = case["ncct"], ~binary_dilation(LESION, iterations=8)
    for region, expected in ((WHITE & ~FLUID, ct.WHITE_HU), (BRAIN & ~WHITE, ct.GREY_HU), (FLUID, ct.CSF_HU)):
        assert np.median(hu[_pure(region & healthy)]) == pytest.approx(expected, abs=3)
    assert np.median(hu[_pure(~binary_dilation(BRAIN, iterations=8))]) == pytest.approx(ct.AIR_HU, abs=10)


def test_skull_is_closed(case: Case) -> None:
    bone = case["ncct"] > 300
    for z in range(6, 24):
        enclosed = binary_fill_holes(bone[..., z]) & ~bone[..., z]
        assert enclosed[_pure(BRAIN)[..., z]].all()


def test_flow_is_low_around_part_of_the_lesion(case: Case) -> None:
    cbf, lesion, brain = case["true_cbf"], _pure(LESION), case["true_tissue"] > 0
    mirrored = cbf[::-1]  # the ellipsoids are symmetric about the middle of the grid
    relative = cbf[lesion] / mirrored[lesion]
    assert np.median(relative) < 0.6
    assert (relative < 0.5).mean() > 0.2
    low = brain & (cbf < 0.5 * mirrored) & (mirrored > 15)
    assert low.sum() > lesion.sum()
    assert case["tmax"][low].mean() > case["tmax"][low[::-1]].mean() + 2
    assert case["true_core"][lesion].min() > 0.5


def test_bolus_passes(simulated: Path, case: Case) -> None:
    ctp, brain = case["ctp"], case["true_tissue"] > 0
    times = json.loads(patient_files(simulated, "sub-strokecase0001")["times"].read_text())["FrameTimesStart"]
    mean = ctp[brain].mean(axis=0)
    assert len(times) == ctp.shape[-1]
    assert mean.max() - mean[0] > 3
    assert 5 < times[int(mean.argmax())] < 40
    assert (ctp.max(axis=-1) - ctp[..., 0])[np.isin(case["true_tissue"], (4, 5))].max() > 50  # tissue: 10
    assert np.ptp(ctp[..., ::4][case["ncct"] > 800], axis=-1).max() < 60


def test_ct_has_no_step_at_the_label() -> None:
    """Levelled, the tissue of an infarct is that of the brain without one."""
    grid = Grid(SHAPE, SPACING, AFFINE)
    prior = np.where(WHITE, 0.3, 0.7)
    maps = []
    for images in (_real_patient(), _real_patient(lesion=False)):
        segmented = segment(grid, images["dwi"], 1000 * images["adc"], BRAIN, images["msk"] > 0, prior)
        maps.append(ct.GREY_HU * segmented.grey + ct.WHITE_HU * segmented.white + ct.CSF_HU * segmented.csf)
    ill, well = (hu[LESION] for hu in maps)
    assert ill.mean() == pytest.approx(well.mean(), abs=0.5)
    assert ill.std() == pytest.approx(well.std(), abs=0.7)


def test_known_tissue_vessels_and_sides_come_back(patients: list[Simulated]) -> None:
    """A phantom's own MRI, skull and all, with noise, bias, distortion and an infarct in it."""
    for seed, p in enumerate(patients[:3]):
        grid, truth, known = p.truth.patient.grid, p.truth, p.truth.head
        images = scan_mri(p.rng._replace(mri=np.random.default_rng(seed)), truth)
        dwi, adc = images.dwi.astype(np.float32), images.adc.astype(np.float32)
        brain = brain_mask(grid, dwi, adc)
        head = build_real_head(shared_atlas(), truth.patient, Mri(grid, dwi, adc, images.label, brain))
        inside, tissue = truth.brain, known.tissue > 0.7
        assert 2 * (brain & inside).sum() / (brain.sum() + inside.sum()) > 0.96
        for found, expected in ((head.grey, known.grey), (head.white, known.white), (head.csf, known.csf)):
            assert np.corrcoef(found[inside], expected[inside])[0, 1] > 0.78
            assert found.sum() == pytest.approx(expected.sum(), rel=0.35)
        assert np.abs(head.side - known.side)[inside].mean() < 4
        nearest = [np.stack(list(h.territory.values())).argmax(axis=0)[tissue] for h in (head, known)]
        assert (nearest[0] == nearest[1]).mean() > 0.9
        for found, expected in ((head.artery, known.artery), (head.vein, known.vein)):
            assert found.sum() == pytest.approx(expected.sum(), rel=0.5)


def test_a_patient_is_the_same_among_others_in_another_layout_and_in_processes(
    simulated: Path, source: Path, tmp_path: Path
) -> None:
    images = _real_patient()
    folder = tmp_path / "singles" / "sub-strokecase0001"
    for kind, name in KINDS.items():
        _save(folder / f"{kind}.nii", images[name])
    _save(tmp_path / "singles" / "another" / "dwi.nii.gz", images["dwi"])
    for kind in ("adc", "lesion"):
        _save(tmp_path / "singles" / "another" / f"{kind}.nii.gz", images[KINDS[kind]])
    assert [p.name for p in find_patients(folder)] == ["sub-strokecase0001"]

    simulate_from_mri(tmp_path / "singles", tmp_path / "out", seed=1, workers=2, mix=MIX)

    first, again = (_contents(out, "sub-strokecase0001") for out in (simulated, tmp_path / "out"))
    assert first == again
    other = patient_files(tmp_path / "out", "sub-another")
    assert other["ctp"].read_bytes() != patient_files(simulated, "sub-strokecase0001")["ctp"].read_bytes()


def test_resume_completes_and_keeps(simulated: Path, source: Path) -> None:
    kept, lost = (patient_files(simulated, f"sub-strokecase000{i}")["dwi"] for i in (1, 2))
    whole, stamp = lost.read_bytes(), kept.stat().st_mtime_ns
    lost.unlink()
    folders = simulate_from_mri(source, simulated, seed=1, workers=1, mix=MIX)
    assert [folder.name for folder in folders] == ["sub-strokecase0001", "sub-strokecase0002"]
    assert lost.read_bytes() == whole
    assert kept.stat().st_mtime_ns == stamp
    with pytest.raises(FileExistsError, match="settings"):
        simulate_from_mri(source, simulated, seed=1, workers=1, mix=MIX, thickness_mm=8.0)


def test_all_faults_are_reported_at_once(tmp_path: Path) -> None:
    source, images = tmp_path / "source", _real_patient()
    names = "missing", "unreadable", "grid", "shape", "infinite", "empty", "unit", "sagittal", "series", "fine"
    paths = {name: source / f"sub-{name}" for name in names}
    for folder in paths.values():
        for kind, name in KINDS.items():
            _save(folder / f"{kind}.nii", images[name])
    (paths["missing"] / "lesion.nii").unlink()
    (paths["unreadable"] / "dwi.nii").write_bytes(b"no image")
    _save(paths["grid"] / "adc.nii", images["adc"], AFFINE + np.eye(4)[:, [0, 1, 3, 2]] * [0, 0, 0, 5])
    _save(paths["shape"] / "lesion.nii", images["msk"][..., 1:])
    _save(paths["infinite"] / "adc.nii", np.where(BRAIN, images["adc"], np.nan).astype(np.float32))
    _save(paths["empty"] / "dwi.nii", 0 * images["dwi"])
    _save(paths["unit"] / "adc.nii", 40 * images["adc"])
    for kind, name in KINDS.items():
        _save(paths["sagittal"] / f"{kind}.nii", images[name], AFFINE[:, [1, 2, 0, 3]])
    _save(paths["series"] / "dwi.nii", np.stack([images["dwi"]] * 2, axis=-1))
    expected = {
        "missing": r"lesion\.nii\.gz is missing",
        "unreadable": r"dwi\.nii cannot be read",
        "grid": r"adc\.nii lies on another grid than dwi\.nii",
        "shape": r"lesion\.nii lies on another grid",
        "infinite": r"adc\.nii holds \d+ values that are not finite",
        "empty": r"dwi\.nii shows no brain",
        "unit": r"adc\.nii has a median of \d+(\.\d+)? in the brain; expected 0\.5-2 10\^-3",
        "sagittal": r"dwi\.nii is stored as .*axial slices",
        "series": r"dwi\.nii has shape \(60, 68, 56, 2\)",
    }
    with pytest.raises(ValueError, match=r"^9 fault\(s\)") as refusal:
        simulate_from_mri(source, tmp_path / "out", workers=1)
    for name, pattern in expected.items():
        assert refusal.match(rf"sub-{name}: .*{name}.{pattern}")
    assert not (tmp_path / "out" / "derivatives").exists()


def test_patients_are_found_in_every_layout(tmp_path: Path) -> None:
    images = _real_patient()
    _save(tmp_path / "root" / "sub-strokecase0003" / "ses-0001" / "sub-strokecase0003_ses-0001_dwi.nii", images["dwi"])
    (found,) = find_patients(tmp_path / "root")
    assert found.name == "sub-strokecase0003"
    assert len(found.faults) == 2

    _save(tmp_path / "single" / "dwi.nii.gz", images["dwi"])
    (found,) = find_patients(tmp_path / "single")
    assert found.name == "sub-single"
    with pytest.raises(FileNotFoundError, match="holds no patients"):
        find_patients(tmp_path / "nowhere")

    for folder in ("rawdata", "raw_data"):
        _save(tmp_path / "twice" / folder / "sub-1" / "sub-1_dwi.nii", images["dwi"])
    assert all("another patient" in p.faults[-1] for p in find_patients(tmp_path / "twice"))


@pytest.mark.parametrize("arguments", [{"seed": -1}, {"workers": 0}, {"thickness_mm": 0.0}])
def test_bad_arguments_are_named(source: Path, tmp_path: Path, arguments: dict[str, float]) -> None:
    (name, value) = next(iter(arguments.items()))
    with pytest.raises(ValueError, match=rf"{name}: found {value!r}, expected"):
        simulate_from_mri(source, tmp_path / "out", **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_slices_are_averaged_by_their_overlap() -> None:
    grid = Grid((4, 4, 73), (2.0, 2.0, 2.0), np.diag([2.0, 2.0, 2.0, 1.0]))
    slab = thick_slices(grid, 5.0)
    assert slab.grid.shape == (4, 4, 29)
    assert slab.grid.spacing == (2.0, 2.0, 5.0)
    # A ramp of the height in the world stays one, on the new grid's own heights.
    ramp = grid.world()[2]
    np.testing.assert_allclose(slab(ramp), slab.grid.world()[2], atol=1e-4)
    np.testing.assert_allclose(slab(np.ones(grid.shape)), 1, atol=1e-6)
    for spacing in (4.0, 5.0, 6.5):
        same = thick_slices(replace(grid, spacing=(2.0, 2.0, spacing), affine=np.diag([2.0, 2.0, spacing, 1.0])), 5.0)
        assert same.grid.shape == grid.shape
        assert np.array_equal(same(ramp), ramp)


def test_real_patient(shared_data: Path, tmp_path: Path) -> None:
    root = shared_data / "isles22"
    if not root.is_dir():
        pytest.skip(f"needs {root.name} in the shared data")
    (folder,) = simulate_from_mri(root, tmp_path / "out", seed=2, workers=1, mix=MIX)
    files = patient_files(tmp_path / "out", folder.name)
    image = {kind: _load(path) for kind, path in files.items() if path.suffix == ".gz"}

    real = read_patient(find_patients(root)[0])
    slab = thick_slices(real.grid, 5.0)
    np.testing.assert_allclose(image["dwi"], slab(real.dwi), atol=np.abs(real.dwi).max() / 32767)
    np.testing.assert_allclose(image["adc"], slab(real.adc), atol=0.51)
    assert nib.Nifti1Image.from_filename(files["ctp"]).shape[:3] == slab.grid.shape

    tissue, hu = image["true_tissue"], image["ncct"]
    for kind, expected in ((1, ct.GREY_HU), (2, ct.WHITE_HU)):
        assert np.median(hu[binary_erosion(tissue == kind, np.ones((2, 2, 1)))]) == pytest.approx(expected, abs=4)
    ventricles = binary_erosion(image["adc"] > 2500, np.ones((3, 3, 1)))
    assert np.median(hu[ventricles]) == pytest.approx(ct.CSF_HU, abs=5)
    grey_ml, white_ml = ((tissue == kind).sum() * slab.grid.voxel_ml for kind in (1, 2))
    assert 0.8 < grey_ml / white_ml < 2.2
    middle = hu.shape[2] // 2
    bone = hu[..., middle] > 300
    assert binary_fill_holes(bone)[tissue[..., middle] > 0].all()

    lesion = image["lesion"] > 0
    cbf = image["true_cbf"]
    assert np.median(cbf[lesion]) < 0.6 * np.median(cbf[tissue > 0])
    assert image["tmax"][lesion].mean() > image["tmax"][tissue > 0].mean()
    assert np.isin(tissue, (4, 5)).sum() * slab.grid.voxel_ml > 1
    mean = image["ctp"][tissue > 0].mean(axis=0)
    assert mean.max() - mean[0] > 3
