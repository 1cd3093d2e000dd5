"""`python -m tests.training.in_step run MANIFEST`: a stage that checks after every step that all processes agree.

It says how many responses each of them writes at once.
"""

import sys
from typing import Any

import torch
from torch import distributed

from training import __main__ as training
from training.engine.trainer import Watch
from training.generation.samplers import Writes

_write = Writes.write


def _counted(self: Writes, prompts: list[list[int]]) -> list[list[int]]:
    print(f"writes {len(prompts)}", flush=True)
    return _write(self, prompts)


_real = Watch.on_step_end


def _checked(self: Watch, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
    weights = [p.detach().double().sum() for p in kwargs["model"].parameters() if p.requires_grad]
    mine = torch.stack(weights)
    of_all = [torch.empty_like(mine) for _ in range(distributed.get_world_size())]
    distributed.all_gather(of_all, mine)
    assert len(of_all) == 2 and all(torch.equal(mine, other) for other in of_all)
    print(f"in step at {state.global_step}", flush=True)
    _real(self, args, state, control, **kwargs)


if __name__ == "__main__":
    Watch.on_step_end = _checked  # type: ignore[method-assign]
    Writes.write = _counted  # type: ignore[method-assign]
    sys.exit(training.main())
