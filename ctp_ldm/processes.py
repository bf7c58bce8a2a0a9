"""What the processes of a run decide together."""

import torch
from torch import distributed as dist

_control: dict[int, dist.ProcessGroup] = {}


def any_process(flag: bool) -> bool:
    """Whether the flag is set in any process; all of them must ask at the same point.

    It travels beside the accelerators, so that nobody waits for what these are still computing.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return flag
    found = torch.tensor(int(flag))
    dist.all_reduce(found, op=dist.ReduceOp.MAX, group=_control_group())
    return bool(found)


def from_all_processes(text: str) -> list[str]:
    """The texts of all processes, in the order of their ranks, without empty ones."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return [text] if text else []
    texts: list[str | None] = [None] * dist.get_world_size()
    dist.all_gather_object(texts, text, group=_control_group())
    return [found for found in texts if found]


def leave_together() -> None:
    """End the process group: without it the first process to exit may break those that still talk to it."""
    if dist.is_available() and dist.is_initialized():
        dist.barrier()
        _control.clear()
        dist.destroy_process_group()


def _control_group() -> dist.ProcessGroup:
    """A group of CPU processes, made once for each world."""
    world = id(dist.group.WORLD)
    if world not in _control:
        _control.clear()
        _control[world] = dist.new_group(backend="gloo")
    return _control[world]
