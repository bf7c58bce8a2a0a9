"""A digital perfusion phantom: simulated stroke patients with CT perfusion, DWI, ADC and the true infarct.

The phantom imports nothing else of the project. One patient goes through it like this:

    patient.py         the hidden parameters, drawn once
    grid.py            the acquisition grid, oblique and in its own storage order
    anatomy.py         MNI152 tissue on that grid, with skull, scalp and the vessels of vessels.py
    lesions.py         where flow is low, and which part of it has infarcted
    haemodynamics.py   arterial input, residue function, tissue curves
    ct.py, mri.py      what the two scanners see
    tree.py            files, many patients in parallel
"""

from ctp_ldm.phantom.tree import write_phantom

__all__ = ["write_phantom"]
