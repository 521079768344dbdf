"""Options that several commands have, each said once."""

from __future__ import annotations

import typer

DATA_DIR = typer.Option(None, help="Where datasets are kept (EBMCTL_DATA).", metavar="DIR")
LABEL = typer.Option(None, help="The label of a conditional model.", metavar="LABEL")

FLOW_STEPS = typer.Option(None, help="Steps of the flow from noise, where there is one.", metavar="N")
ROUNDS = typer.Option(None, help="Rounds of augmentation and sampler steps.", metavar="N")
STEPS = typer.Option(None, help="Sampler steps a round.", metavar="K")
FINAL_STEPS = typer.Option(None, help="Sampler steps after the last round.", metavar="K")
SAMPLER = typer.Option(None, help="Another sampler.", metavar="NAME")
SAMPLER_KEYS = typer.Option([], "--set", help="Change a key of the sampler.", metavar="KEY=VALUE")
CHAIN = typer.Option(None, help="Show the chains as an animation.", metavar="GIF")
SEED = typer.Option(0, help="The same seed gives the same picture.", metavar="N")
