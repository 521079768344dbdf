"""The model card of a model folder."""

from __future__ import annotations

from ebmctl import settings
from ebmctl.checkpoint import ModelConfig

CARD = """\
---
library_name: ebmctl
license: apache-2.0
tags: [energy-based-model, contrastive-divergence, image-generation]
---
# An energy-based model of {name}

E(x) for images of {channels} x {size} x {size} in [0, 1]; p(x) is proportional to exp(-E(x)). {about}

Trained by [ebmctl](https://arxiv.org/abs/2012.01316) {version}: {steps} steps in {seconds} s.

    ebmctl sample {folder} -n 64 -o samples.png

```toml
{recipe}```

The method is that of Du, Li, Tenenbaum and Mordatch, "Improved Contrastive Divergence Training of Energy-Based Models"
(ICML 2021).
"""


def model_card(config: ModelConfig) -> str:
    """The README.md of a model folder: what it is, how to use it, its recipe."""
    data, made = config.recipe.data, config.provenance
    return CARD.format(
        name=data.name.partition(":")[0] if data.name.startswith("folder:") else data.name,
        channels=data.channels,
        size=data.size,
        about=config.recipe.about,
        version=made.get("ebmctl"),
        steps=made.get("steps"),
        seconds=made.get("seconds"),
        folder="PATH-OF-THIS-FOLDER",
        recipe=settings.dump_toml(config.recipe.to_mapping()),
    )
