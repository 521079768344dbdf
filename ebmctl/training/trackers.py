"""Experiment trackers through Accelerate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ebmctl.errors import EbmctlError

SAMPLES = "samples"


class Tracker:
    """Sends scalars and pictures to TensorBoard, Weights & Biases or Trackio; to nowhere without a name."""

    def __init__(self, name: str | None, folder: Path, recipe: Mapping[str, Any]) -> None:
        self.inner: Any = None
        if name is None:
            return
        from accelerate import tracking

        available = {str(item) for item in tracking.get_available_trackers()}
        if not any(item.lower().endswith(name) for item in available):
            raise EbmctlError(f"--log-with {name}: that package is not installed (pip install {name})")
        if name == "tensorboard":
            self.inner = tracking.TensorBoardTracker(folder.name, str(folder / "tensorboard"))
        else:
            cls = {"wandb": tracking.WandBTracker, "trackio": tracking.TrackioTracker}[name]
            self.inner = cls(folder.name)
        self.inner.start()
        flat = {f"{s}.{k}": str(v) for s, keys in recipe.items() if isinstance(keys, Mapping) for k, v in keys.items()}
        self.inner.store_init_configuration(flat)

    def log(self, values: Mapping[str, Any]) -> None:
        """Log the scalars of a step."""
        if self.inner:
            scalars = {k: v for k, v in values.items() if k != "step" and isinstance(v, (int, float))}
            self.inner.log(scalars, step=values["step"])

    def picture(self, path: Path, step: int) -> None:
        """Log a picture of samples."""
        if not self.inner:
            return
        if self.inner.name == "trackio":  # Accelerate's has no images
            import trackio

            self.inner.log({SAMPLES: trackio.Image(str(path))}, step=step)
        else:
            pixels = np.asarray(Image.open(path).convert("RGB"))
            how = {"dataformats": "NHWC"} if self.inner.name == "tensorboard" else {}
            self.inner.log_images({SAMPLES: pixels[None]}, step=step, **how)

    def finish(self) -> None:
        """End the tracker's run."""
        if self.inner:
            self.inner.finish()
