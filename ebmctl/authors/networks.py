"""The networks of the paper's authors as the project's: the kind is recognised from the tensors of a checkpoint.

Their program has three networks for CIFAR-10, MNIST and 128x128 pixels (CelebA-HQ, LSUN, ImageNet, objects); each is a
`ResidualEnergy`. Their energies come coarsest scale first, ours finest first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ebmctl.core.config import ResidualConfig
from ebmctl.core.nets.residual import ResidualEnergy

PREFIXES = ("", "mid_", "small_")
_UNUSED = re.compile(r"heir_weight|(avg_pool|downsample)\.filt")
"""Parameters and filters of fixed numbers that no energy depends on."""
_BLOCK = re.compile(r"(res_?\d+[ab]?)\.")


@dataclass(frozen=True)
class Recognised:
    """What was found in the authors' tensors.

    `state` has the parameters of `ResidualEnergy(config, channels, labels)` by our names. `missing` names their tensors
    that it needs and that are missing or have another shape, `unexpected` what the file holds beyond; with either, its
    energies are not the authors'. `stale` counts spectral norms that had to be recomputed.
    """

    kind: str
    config: ResidualConfig
    channels: int
    labels: int
    state: dict[str, Tensor]
    missing: list[str]
    unexpected: list[str]
    stale: int


def recognise(tensors: Mapping[str, Tensor], flags: Mapping[str, Any] | None = None) -> Recognised:
    """The authors' `model_state_dict_0` (or its EMA) with their `FLAGS` as one of our networks.

    Only the flags say whether labels and the attention are used, not the tensors. Without flags the model is taken as
    unconditional. Raises ValueError for tensors of another kind of network.
    """
    flags = flags or {}
    theirs = {name.removeprefix("module."): tensor for name, tensor in tensors.items() if isinstance(tensor, Tensor)}
    blocks = sorted({match[1] for name in theirs if (match := _BLOCK.match(name))})
    if "conv1.weight" not in theirs or theirs["conv1.weight"].ndim != 4 or not blocks:
        raise ValueError("these tensors are not one of the authors' energy networks: no conv1 and residual blocks")
    spectral = any(name.endswith("conv1.weight_orig") for name in theirs)
    config = _shape(theirs, blocks, flags, spectral)
    classes = next((t.shape[1] for n, t in theirs.items() if n.endswith("latent_map.weight") and t.ndim == 2), 0)
    labels = classes if flags.get("cond") else 0
    channels = theirs["conv1.weight"].shape[1]
    needed = dict(_names(config, blocks, labels > 0))
    with torch.device("meta"):
        wanted = ResidualEnergy(config, channels, labels).state_dict()
    state, missing = _taken(theirs, needed, wanted)
    unexpected = [name for name in theirs if name not in needed.values() and not _unused(name, config, labels)]
    if blocks[0].startswith("res_"):
        unexpected += [f"FLAGS.{name}" for name in ("alias", "square_energy", "sigmoid") if flags.get(name)]
    return Recognised(
        kind=_kind(blocks, theirs, classes),
        config=config,
        channels=channels,
        labels=labels,
        state=state,
        missing=missing,
        unexpected=unexpected,
        stale=_refresh(state) if spectral else 0,
    )


def _unused(name: str, config: ResidualConfig, labels: int) -> bool:
    """Whether the energy is independent of one of their tensors."""
    if _UNUSED.fullmatch(name):
        return True
    if not labels and re.search(r"(^map_fc[12]|\.latent_map(_2)?)\.", name):
        return True
    return not config.attention and name.startswith("self_attn.")


def _shape(theirs: Mapping[str, Tensor], blocks: list[str], flags: Mapping[str, Any], spectral: bool) -> ResidualConfig:
    """The shape of the network: a stage ends with each block that halves the image."""
    width = theirs["conv1.weight"].shape[0]
    counts, outs, before = [], [], 0
    for block in blocks:
        down = theirs.get(f"{block}.conv_downsample.weight")
        if down is None:
            before += 1
            continue
        counts.append(before)
        outs.append(down.shape[0])
        before = 0
    if not counts:
        raise ValueError("these tensors are not one of the authors' energy networks: no conv_downsample")
    value, gamma = theirs.get("self_attn.value_conv.weight"), theirs.get("self_attn.gamma")
    used = flags.get("self_attn", gamma is not None and bool(gamma.any()))  # gamma stays 0 where it is not used
    attention = outs.index(value.shape[0]) + 1 if used and value is not None and value.shape[0] in outs else 0
    scales = sum(f"{prefix}conv1.weight" in theirs for prefix in PREFIXES)
    coarse = theirs["mid_conv1.weight"].shape[0] if scales > 1 and "mid_conv1.weight" in theirs else width
    normed = any(re.match(r"res_?1a?\.bn1\.", name) for name in theirs)
    return ResidualConfig(
        width=width,
        blocks=tuple(counts),
        multipliers=tuple(max(out // max(width, 1), 1) for out in outs),
        attention=attention,
        scales=scales,
        norm="auto" if normed else "none",
        spectral_norm=spectral,
        coarse_width=0 if coarse == width else coarse,
    )


def _kind(blocks: list[str], theirs: Mapping[str, Tensor], classes: int) -> str:
    if not blocks[0].startswith("res_"):
        return "MNIST"
    if "res_1a.conv_downsample.weight" not in theirs:
        return "CIFAR-10"
    return "ImageNet" if classes == 1000 else "CelebA-HQ (also of LSUN and objects)"


def _names(config: ResidualConfig, blocks: list[str], conditional: bool) -> Iterator[tuple[str, str]]:
    """Our name and theirs of each tensor."""
    for scale, prefix in enumerate(PREFIXES[: config.scales]):
        spectral = config.spectral_norm and not (scale and config.coarse_width)
        normed = config.norm != "none" or (scale and config.coarse_width)
        attention = 0 if scale else config.attention
        for ours, theirs in _layers(config, blocks, len(config.blocks) - scale, attention):
            layer = theirs.rpartition(".")[2]
            if (layer in ("bn1", "bn2") and not normed) or (layer.startswith("latent_map") and not conditional):
                continue
            where, name = f"scales.{scale}.{ours}", f"{prefix}{theirs}"
            if layer == "gamma":
                yield where, name
            elif spectral and layer in ("conv1", "conv2") and theirs != "conv1":
                yield f"{where}.conv.bias", f"{name}.bias"
                yield f"{where}.conv.parametrizations.weight.original", f"{name}.weight_orig"
                for vector in ("u", "v"):
                    yield f"{where}.conv.parametrizations.weight.0._{vector}", f"{name}.weight_{vector}"
            else:
                yield f"{where}.weight", f"{name}.weight"
                yield f"{where}.bias", f"{name}.bias"


def _layers(config: ResidualConfig, blocks: list[str], stages: int, attention: int) -> Iterator[tuple[str, str]]:
    """Our name and theirs of each layer of one scale."""
    yield "stem", "conv1"
    index, rest = 0, iter(blocks)
    inner = {"conv1": "conv1", "norm1": "bn1", "conv2": "conv2", "norm2": "bn2"}
    inner |= {"label1": "latent_map", "label2": "latent_map_2"}
    for stage in range(stages):
        for _ in range(config.blocks[stage] + 1):
            block = next(rest)
            yield from ((f"layers.{index}.{ours}", f"{block}.{theirs}") for ours, theirs in inner.items())
            index += 1
        yield f"layers.{index}.conv", f"{block}.conv_downsample"
        index += 1
        if stage + 1 == attention:
            yield from ((f"layers.{index}.{a}", f"self_attn.{a}_conv") for a in ("query", "key", "value"))
            yield f"layers.{index}.gamma", "self_attn.gamma"
            index += 1
    yield "head", "energy_map"


def _taken(
    theirs: Mapping[str, Tensor], needed: Mapping[str, str], wanted: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors that fit, by our names; and the names of those that are missing or do not fit."""
    state, missing = {}, []
    for ours, tensor in wanted.items():
        name = needed[ours]
        found = theirs.get(name)
        if found is None:
            missing.append(name)
        elif found.shape != tensor.shape or not found.is_floating_point():
            missing.append(f"{name} {tuple(found.shape)} instead of {tuple(tensor.shape)}")
        else:
            state[ours] = found.float()
    return state, missing


def _refresh(state: dict[str, Tensor]) -> int:
    """Recompute the spectral norms that were never updated; returns their number.

    The authors average only parameters: the vectors of their averaged model are still the initial ones, which do not
    estimate the norm. Vectors that give at least half of it are kept.
    """
    stale = 0
    for name in [name for name in state if name.endswith(".0._u")]:
        base = name.removesuffix("0._u")
        weight, u, v = (state.get(f"{base}{part}") for part in ("original", "0._u", "0._v"))
        if weight is None or u is None or v is None:
            continue
        matrix = weight.flatten(1)
        if torch.dot(u, matrix @ v) >= 0.5 * torch.linalg.matrix_norm(matrix, 2):
            continue
        for _ in range(100):
            v = normalize(matrix.T @ u, dim=0)
            u = normalize(matrix @ v, dim=0)
        state[name], state[f"{base}0._v"] = u, v
        stale += 1
    return stale
