"""A whole training step at K = 40: what is not the Langevin steps, and what the KL term adds."""

from __future__ import annotations

from dataclasses import replace

import torch
from accelerate import Accelerator

from bench.timing import best
from ebmctl.config.parts import Part
from ebmctl.config.recipe import resolve
from ebmctl.config.schema import Recipe
from ebmctl.core.config import LangevinConfig
from ebmctl.core.energy import Conditioned, frozen
from ebmctl.core.langevin import Langevin, run
from ebmctl.data.base import TensorImages
from ebmctl.training.trainer import Trainer


def trainer(recipe: Recipe) -> Trainer:
    made = Trainer(recipe, TensorImages(torch.randint(0, 256, (512, 3, 32, 32), dtype=torch.uint8)), Accelerator())
    for _ in range(10):
        made.objective.buffer.add(torch.rand(1000, 3, 32, 32), torch.Generator())
    return made


def main() -> None:
    recipe = resolve("cifar10", None, ["optimizer.batch_size=32"], {})
    whole = trainer(recipe)
    without = trainer(replace(recipe, objective=Part("icd", replace(recipe.objective.options, kl_loss=False))))
    fixed = Conditioned(frozen(whole.network), None)
    sampler = Langevin(LangevinConfig(), torch.Generator())
    x = torch.rand(32, 3, 32, 32)
    sources = whole.batches(), without.batches()
    times = best(
        lambda: whole.train_step(next(sources[0])),
        lambda: without.train_step(next(sources[1])),
        lambda: run(sampler, fixed, x, 40),
        rounds=3,
    )
    step, no_kl, langevin = times
    print(f"training step            {step:8.2f} s")
    print(f"its 40 Langevin steps    {langevin:8.2f} s")
    print(f"all else                 {(step - langevin) / step:8.3f}    (target: at most 0.15)")
    print(f"KL term                  {(step - no_kl) / step:8.3f}    (target: at most 0.10)")
