"""How good generated images are: FID, Inception score, KID, precision and recall, computed by torch-fidelity."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor

from ebmctl.errors import UsageError
from ebmctl.evaluation.extractors import Extractor, Features, need_fidelity
from ebmctl.evaluation.results import Metric
from ebmctl.models.memory import check_fits

METRICS = ("fid", "is", "kid", "prc")
FEWEST = 10  # images that the Inception score's ten splits need
SPLITS, SUBSETS, SUBSET_SIZE, NEIGHBOURS = 10, 100, 1000, 3  # torch-fidelity's defaults
NAMES = {"fid": "frechet-distance", "is": "score", "kid": "kernel-distance"}  # by another extractor than Inception


def extract(extractor: Extractor, batches: Iterable[Tensor]) -> Features:
    """The features and logits of all uint8 images together."""
    parts = [extractor(pixels) for pixels in batches]
    return Features(torch.cat([part.features for part in parts]), torch.cat([part.logits for part in parts]))


def check_memory(extractor: Extractor, shape: tuple[int, ...], n: int, batch: int, free: int) -> None:
    """Raise UsageError where a batch of images (C, H, W), or the features of all n, are more than the free memory."""
    size = min(batch, n) * math.prod(shape)
    check_fits(f"--batch {batch}: the images", size, free, "give a smaller --batch")
    one = extractor(torch.zeros(1, *shape, dtype=torch.uint8))
    size = 2 * n * (one.features.nbytes + one.logits.nbytes)  # in parts and joined
    check_fits(f"-n {n}: the features of so many images", size, free, "give a smaller -n")


def compute_metrics(
    generated: Features, real: Features, names: Iterable[str], extractor: Extractor
) -> dict[str, Metric]:
    """The metrics by name, each with its extractor, its weights' checksum and how images were resized.

    By Inception these are `fid`, `is`, `kid`, `precision` and `recall`; by another extractor they begin with its
    name. Raises UsageError for fewer than `FEWEST` images.
    """
    if min(len(generated.features), len(real.features)) < FEWEST:
        raise UsageError(f"quality metrics need at least {FEWEST} generated and {FEWEST} real images")
    found: dict[str, Metric] = {}
    for requested in names:
        for name, metric in _one(requested, generated, real).items():
            known = name if extractor.published else f"{extractor.name} {NAMES.get(name, name)}"
            found[known] = replace(
                metric,
                extractor=extractor.name,
                weights_sha256=extractor.weights_sha256,
                resize=extractor.resize,
                n=len(generated.features),
                n_real=len(real.features),
            )
    return found


def _one(requested: str, generated: Features, real: Features) -> dict[str, Metric]:
    a, b = generated.features, real.features
    if requested == "fid":
        fidelity = need_fidelity("metric_fid")
        first, second = (fidelity.fid_features_to_statistics(features) for features in (a, b))
        return {"fid": Metric(next(iter(fidelity.fid_statistics_to_metric(first, second, False).values())))}
    if requested == "is":
        result = need_fidelity("metric_isc").isc_features_to_metric(generated.logits, SPLITS)
        return {"is": Metric(result["inception_score_mean"], std=result["inception_score_std"], splits=SPLITS)}
    if requested == "kid":
        size = min(SUBSET_SIZE, len(a), len(b))
        how = {"kid_subsets": SUBSETS, "kid_subset_size": size, "verbose": False}
        result = need_fidelity("metric_kid").kid_features_to_metric(a, b, **how)
        value, std = result["kernel_inception_distance_mean"], result["kernel_inception_distance_std"]
        return {"kid": Metric(value, std=std, subsets=SUBSETS, subset_size=size)}
    how = {"prc_neighborhood": NEIGHBOURS, "save_cpu_ram": True, "verbose": False}
    result = need_fidelity("metric_prc").prc_features_to_metric(a, b, **how)
    return {name: Metric(result[name], neighbours=NEIGHBOURS) for name in ("precision", "recall")}
