"""Many runs that answer one question: the protocol's parts, made one after the other, and the table made from them.

protocol.yaml ──▶ parts ──▶ fit, validation and test of each ──▶ one JSON each ──▶ table, findings, figure

protocol.py     what is declared before anything is run
ablations.py    choices of it that are varied one at a time
parts.py        the command lines of a part
running.py      many parts side by side, each in processes of its own, resumed where they were
results.py      the JSON of a part
study.py        patients, stores and parts of a phase, from nothing to the JSON files
table.py        the table of all arms, and what has to be said about it
figure.py       the same as a picture
"""

from ctp_ldm.experiments.ablations import read_ablations
from ctp_ldm.experiments.pages import write_ablation, write_pages
from ctp_ldm.experiments.protocol import Protocol, ProtocolError, read_protocol
from ctp_ldm.experiments.results import ResultError
from ctp_ldm.experiments.running import PartFailed
from ctp_ldm.experiments.study import Study

__all__ = [
    "PartFailed",
    "Protocol",
    "ProtocolError",
    "ResultError",
    "Study",
    "read_ablations",
    "read_protocol",
    "write_ablation",
    "write_pages",
]
