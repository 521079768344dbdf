"""Run by torch's launcher in several processes: runs whose metrics are read at once, and late; see test_parallel.py."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from accelerate import Accelerator

from ebmctl.training.folder import RunFolder
from ebmctl.training.loop import train
from ebmctl.training.trainer import Trainer
from tests.test_guard import poison
from tests.test_run import images, recipe


def main(out: Path) -> None:
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    for late in (1, 3):
        made = Trainer(
            recipe("run.steps=12", "run.checkpoint_every=5", "run.preview_every=1000"), images(), accelerator
        )
        made.late = late
        if accelerator.process_index == 1:
            poison(made, {7})
        path = out / str(late)
        folder = RunFolder.create(path, made.recipe) if accelerator.is_main_process else RunFolder(path)
        accelerator.wait_for_everyone()
        for _ in train(made, folder, seconds=None, stopped=lambda: False):
            pass
    accelerator.end_training()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
