"""Choices of a protocol that are varied one at a time: `configs/reproduce/ablations.yaml`."""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from ctp_ldm.configuration import shipped_configs
from ctp_ldm.experiments.protocol import FOLDER, Part, Protocol, ProtocolError, Settings, parsed, read_mapping


@dataclass(frozen=True)
class Ablation:
    """One choice and what it does, on the patients of development and one seed.

    question: in words.
    part: what is judged.
    refits: parts that are fitted anew for each variant; those that start from one another do so within it. None: the
        part is only tested anew.
    variants: label → option → value; the first is what the protocol has. `<part>/<option>` is for that refit alone.
    stores: label → store, of variants that see other data.
    sizes: at which the variants make sense; None for all.
    """

    question: str
    part: str
    refits: list[str]
    variants: dict[str, Settings]
    stores: dict[str, str] = field(default_factory=dict)
    sizes: list[str] | None = None

    def parts(self, name: str, protocol: Protocol) -> tuple[Protocol, dict[str, str]]:
        """The protocol with the parts of all variants, one seed each, and label → part that is judged."""
        parts = {n: replace(part, seeds=1) for n, part in protocol.parts.items()}
        judged = {}
        for i, (label, settings) in enumerate(self.variants.items()):
            if i == 0:
                judged[label] = self.part
                continue
            variant = "-".join([name, *re.findall(r"[A-Za-z0-9.]+", label)])
            for fitted in self.refits:
                part = parts[fitted]
                start = f"{part.start}~{variant}" if part.start in self.refits else part.start
                store = self.stores.get(label, part.store)
                own = {k.removeprefix(f"{fitted}/"): v for k, v in settings.items() if _is_for(k, fitted)}
                changed = Settings(part.settings | own)
                parts[f"{fitted}~{variant}"] = replace(part, start=start, settings=changed, store=store)
            if not self.refits:
                title = parts[self.part].title
                parts[f"{self.part}~{variant}"] = Part(title, of=self.part, settings=settings)
            judged[label] = f"{self.part}~{variant}"
        return replace(protocol, parts=parts), judged


def read_ablations(protocol: Protocol, path: Path | None = None) -> dict[str, Ablation]:
    """Name → ablation.

    Raises:
        ProtocolError: what is wrong with them.
    """
    path = path or shipped_configs() / FOLDER / "ablations.yaml"
    found = {name: parsed(Ablation, content, path) for name, content in read_mapping(path).items()}
    faults = [
        f"{name} names {part}, which is no part of the protocol"
        for name, ablation in found.items()
        for part in [*ablation.refits, ablation.part]
        if part not in protocol.parts
    ]
    faults += [
        f"{n} refits {a.refits} and not {a.part}" for n, a in found.items() if a.refits and a.part not in a.refits
    ]
    faults += [f"{n} has fewer than two variants" for n, a in found.items() if len(a.variants) < 2]
    if faults:
        raise ProtocolError(f"{path}:\n" + "\n".join(faults))
    return found


def _is_for(option: str, part: str) -> bool:
    return "/" not in option or option.startswith(f"{part}/")
