"""Options that several commands share."""

from __future__ import annotations

import typer

from ebmctl.cli import console

DEVICES = ("auto", "cpu", "cuda", "mps")
DEVICE = typer.Option("auto", help="Device to compute on; auto: a GPU if there is one.", metavar="|".join(DEVICES))
PRECISIONS = ("auto", "fp32", "tf32", "bf16")
PRECISION = typer.Option(
    "auto", help="Precision of the network; auto: bf16 on a GPU that has it, else fp32.", metavar="|".join(PRECISIONS)
)
COMPILES = ("auto", "on", "off")
COMPILE = typer.Option("auto", help="Compile the network; auto: where it saves time.", metavar="|".join(COMPILES))
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


def check_form(precision: str, compile: str) -> None:
    """Raise UsageError for an unknown `--precision` or `--compile`."""
    console.choice("--precision", precision, list(PRECISIONS))
    check_compile(compile)


def check_compile(compile: str) -> None:
    """Raise UsageError for an unknown `--compile`."""
    console.choice("--compile", compile, list(COMPILES))
