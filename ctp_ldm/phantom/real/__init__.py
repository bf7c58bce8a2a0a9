"""Real patients with a simulated CT, from their DWI, ADC and lesion.

files.py           finding and reading the MRI; every fault at once
slab.py            thin slices averaged to those of a perfusion scan
segmentation.py    brain, fluid, grey and white matter from DWI and ADC
registration.py    where the template's vessels and territories lie in this head
head.py            tissue, skull and vessels as the phantom knows them
patient.py         a circulation drawn around the real infarct
simulation.py      files, many patients in parallel
"""

from ctp_ldm.phantom.real.simulation import simulate_from_mri

__all__ = ["simulate_from_mri"]
