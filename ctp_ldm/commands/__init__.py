"""The project's own commands: a small typed function each, which the command line is made from.

Each lies in a module of its name, loaded when it is called: `ctp-ldm --help` need not wait for torch.
"""

COMMANDS = {
    "phantom": "write an ISLES'24-style tree of simulated patients",
    "check": "read and check every case of a data set; report all faults at once",
    "prepare": "bring a data set to one grid and scaling; write the slice store that training reads",
    "compare": "put tested runs on the same patients side by side, with paired intervals",
    "demo": "the whole system on simulated patients, on two CPU cores",
}
