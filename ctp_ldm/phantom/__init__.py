"""A digital perfusion phantom: simulated stroke patients with CT perfusion, DWI, ADC and the true infarct.

The phantom imports nothing else of the project. One patient goes through it like this:

    mix.py             how often what happens, and the named data sets
    patient.py         the hidden parameters, drawn once
    grid.py            how it is acquired: an oblique grid in its own storage order, and the times of frames
    anatomy.py         MNI152 tissue on that grid, with skull, scalp and the vessels of vessels.py
    chronic.py         old damage: scars, diseased white matter
    lesions.py         where flow is low, and which part of it infarcts (regions.py cuts regions out of random fields)
    haemodynamics.py   arterial input, residue function, tissue curves
    ct.py, mri.py      what the two scanners see
    maps.py            perfusion maps, as a vendor's software makes them from the noisy series
    simulate.py        all of this in order
    files.py, tree.py  what is written, many patients in parallel

    real/              the same for real patients: their DWI, ADC and lesion, with a simulated CT

    calibration.py     what the patients are like (learnable.py: how much of them can be learned from CT)
    targets.py         what is published of such patients
    description.py     both as a table and figures (pictures.py)
"""

from ctp_ldm.phantom.description import describe_phantom
from ctp_ldm.phantom.mix import PRESETS, Mix, PresetName, SizeName, changed
from ctp_ldm.phantom.real import simulate_from_mri
from ctp_ldm.phantom.tree import write_phantom

__all__ = [
    "PRESETS",
    "Mix",
    "PresetName",
    "SizeName",
    "changed",
    "describe_phantom",
    "simulate_from_mri",
    "write_phantom",
]
