"""Run by torch's launcher in several processes; see test_parallel.py."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import save_file

from ebmctl.core.energy import frozen
from ebmctl.training.gradients import accumulate
from ebmctl.training.trainer import Trainer, fit
from tests.test_run import images, recipe

JOINED = 8


def gradient(made: Trainer, rank: int, processes: int) -> torch.Tensor:
    """The averaged gradient where each process has its share of one batch and of one set of chain starts."""
    draw = torch.Generator().manual_seed(1)
    positives, starts = torch.rand(2, JOINED, 1, 8, 8, generator=draw)
    share = slice(rank * JOINED // processes, (rank + 1) * JOINED // processes)
    made.objective.chain_starts = lambda _: starts[share]
    found = accumulate(made.objective.losses(made.network, positives[share], None, frozen), made.parameters)
    return torch.cat([part.flatten() for part in made.average(found.gradients)])


def main(out: Path) -> None:
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    quiet = ["sampler.noise=0.0", "augment.enabled=false", "objective.kl_entropy=0.0"]
    made = Trainer(recipe(*quiet), images(), accelerator)
    found = gradient(made, accelerator.process_index, accelerator.num_processes)
    trained = Trainer(recipe("run.steps=20"), images(), accelerator)
    for _ in fit(trained):
        pass
    weights = torch.cat([p.flatten() for p in trained.network.parameters()]).detach()
    others = accelerator.gather(weights[None])
    if accelerator.is_main_process:
        save_file({"gradient": found, "weights": others}, out)
    accelerator.end_training()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
