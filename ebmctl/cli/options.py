"""Options that several commands share."""

from __future__ import annotations

import typer

from ebmctl.cli import console

DEVICES = ("auto", "cpu", "cuda", "mps")
DEVICE = typer.Option("auto", help="Device to compute on; auto: a GPU if there is one.", metavar="|".join(DEVICES))
DATA_DIR = typer.Option(None, help="Folder of the datasets (EBMCTL_DATA).", metavar="DIR")
LABEL = typer.Option(None, help="Label, for a conditional model.", metavar="LABEL")

FLOW_STEPS = typer.Option(None, help="Steps of the gradient flow from noise, if the model has one.", metavar="N")
ROUNDS = typer.Option(None, help="Rounds of augmentation and sampler steps.", metavar="N")
STEPS = typer.Option(None, help="Sampler steps per round.", metavar="K")
FINAL_STEPS = typer.Option(None, help="Sampler steps after the last round.", metavar="K")
SAMPLER = typer.Option(None, help="Use another sampler.", metavar="NAME")
SAMPLER_KEYS = typer.Option([], "--set", help="Override a setting of the sampler.", metavar="KEY=VALUE")
CHAIN = typer.Option(None, help="Write the chains as an animation.", metavar="GIF")
SEED = typer.Option(0, help="Random seed; the same seed gives the same images.", metavar="N")


def check_device(device: str) -> None:
    """Raise UsageError for a `--device` that is not one of `DEVICES`; whether this machine has it is not known yet."""
    console.choice("--device", device, list(DEVICES))
