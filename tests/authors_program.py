"""The authors' networks once more, written from their tensors' names alone: what an import is compared with.

Nothing is shared with the package. Every block is conv, norm, label gain and bias, swish, twice; the input is added; a
block with a `conv_downsample` ends in that, an average pooling and swish.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

CIFAR = ["1a", "1b-", "2a", "2b+", "@", "3a", "3b+", "4a", "4b+"]  # -: halves, +: halves and doubles, @: attention
CELEBA = ["1a+", "1b-", "2a-", "2b+", "3a", "3b+", "@", "4a", "4b+"]
MNIST = ["1+", "2+", "3+"]


def swish(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


def towers(kind: str, width: int, multiscale: bool) -> list[tuple[str, int, list[str]]]:
    """Prefix, first width and blocks of each network of one scale, the full image first."""
    if kind == "mnist":
        return [("", width, MNIST)]
    if kind == "cifar":
        coarse = [("mid_", width, CIFAR[:4] + CIFAR[5:7]), ("small_", width, CIFAR[:4])]
        return [("", width, CIFAR), *coarse * multiscale]
    coarse = [("mid_", width, ["1a-", *CELEBA[1:6]]), ("small_", width, ["1a-", *CELEBA[1:4]])]
    return [("", width // 2, CELEBA), *coarse * multiscale]


def tensors(
    kind: str,
    width: int,
    *,
    classes: int,
    multiscale: bool = True,
    spectral: bool = False,
    norm: bool = True,
    seed: int = 0,
) -> dict[str, Tensor]:
    """A state dictionary with all that theirs has, also what no energy depends on."""
    draw = torch.Generator().manual_seed(seed)
    made: dict[str, Tensor] = {}

    def linear(name: str, *shape: int) -> None:
        made[f"{name}.weight"] = torch.randn(shape, generator=draw) / math.sqrt(math.prod(shape[1:]))
        made[f"{name}.bias"] = 0.1 * torch.randn(shape[0], generator=draw)

    for prefix, first, blocks in towers(kind, width, multiscale):
        plain = bool(prefix) and kind == "celeba"  # their coarser scales always have norms and no spectral norm
        channels = first
        linear(f"{prefix}conv1", channels, 1 if kind == "mnist" else 3, 3, 3)
        for block in blocks:
            if block == "@":
                continue
            name = f"{prefix}{'res' if kind == 'mnist' else 'res_'}{block.rstrip('+-')}"
            for part in "12":
                if norm or plain:
                    made[f"{name}.bn{part}.weight"] = 1 + 0.1 * torch.randn(channels, generator=draw)
                    made[f"{name}.bn{part}.bias"] = 0.1 * torch.randn(channels, generator=draw)
                linear(f"{name}.conv{part}", channels, channels, 3, 3)
                if spectral and not plain:
                    weight = made.pop(f"{name}.conv{part}.weight")
                    left, _, right = torch.linalg.svd(weight.flatten(1))
                    made[f"{name}.conv{part}.weight_orig"] = 3 * weight
                    made[f"{name}.conv{part}.weight_u"] = left[:, 0].clone()
                    made[f"{name}.conv{part}.weight_v"] = right[0].clone()
                linear(f"{name}.latent_map{'' if part == '1' else '_2'}", 2 * channels, classes)
            if block[-1] in "+-":
                out = 2 * channels if block[-1] == "+" else channels
                linear(f"{name}.conv_downsample", out, channels, 3, 3)
                channels = out
        linear(f"{prefix}energy_map", 1, channels)
        if "@" in blocks:
            inner = (2 if kind == "cifar" else 4) * width
            made["self_attn.gamma"] = torch.tensor([0.7])
            for part, out in (("query", inner // 8), ("key", inner // 8), ("value", inner)):
                linear(f"self_attn.{part}_conv", out, inner, 1, 1)
    if kind == "mnist":
        linear("map_fc1", 256, 10)
        linear("map_fc2", 256, 256)
    else:
        made["downsample.filt"] = torch.ones(3, 1, 3, 3)
        made |= {"avg_pool.filt": torch.ones(3, 1, 3, 3)} if multiscale else {}
    if kind == "celeba":
        made["heir_weight"] = torch.ones(3)
    return made


def energies(
    state: dict[str, Tensor],
    kind: str,
    width: int,
    x: Tensor,
    label: Tensor | None,
    *,
    multiscale: bool,
    attention: bool,
) -> Tensor:
    """Their energies (B, S), coarsest scale first, as theirs come."""
    found = []
    for prefix, _, blocks in towers(kind, width, multiscale):
        found.append(_tower(state, prefix, kind, blocks, x, label, attention))
        x = F.avg_pool2d(x, 3, stride=2, padding=1)
    return torch.cat(found[::-1], dim=1)


def _tower(
    state: dict[str, Tensor],
    prefix: str,
    kind: str,
    blocks: list[str],
    x: Tensor,
    label: Tensor | None,
    attention: bool,
) -> Tensor:
    def conv(name: str, x: Tensor) -> Tensor:
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)

    h = swish(conv(f"{prefix}conv1", x))
    for block in blocks:
        if block == "@":
            h = _attention(state, h) if attention else h
            continue
        name, before = f"{prefix}{'res' if kind == 'mnist' else 'res_'}{block.rstrip('+-')}", h
        for part, map_name in (("1", "latent_map"), ("2", "latent_map_2")):
            h = F.conv2d(h, _weight(state, f"{name}.conv{part}"), state[f"{name}.conv{part}.bias"], padding=1)
            if f"{name}.bn{part}.weight" in state:
                weight, bias = state[f"{name}.bn{part}.weight"], state[f"{name}.bn{part}.bias"]
                h = (
                    F.instance_norm(h, weight=weight, bias=bias)
                    if len(weight) <= 128
                    else F.group_norm(h, 32, weight, bias)
                )
            if label is not None:
                both = F.linear(label, state[f"{name}.{map_name}.weight"], state[f"{name}.{map_name}.bias"])
                gain, bias = both[:, : h.shape[1], None, None], both[:, h.shape[1] :, None, None]
                h = gain * h + bias
            h = swish(h)
        h = before + h
        if block[-1] in "+-":
            h = swish(F.avg_pool2d(conv(f"{name}.conv_downsample", h), 3, stride=2, padding=1))
    pooled = swish(h).mean(dim=(2, 3))
    return F.linear(pooled, state[f"{prefix}energy_map.weight"], state[f"{prefix}energy_map.bias"])


def _weight(state: dict[str, Tensor], name: str) -> Tensor:
    if f"{name}.weight_orig" in state:  # spectral norm (torch.nn.utils.spectral_norm when it does not train)
        weight, u, v = (state[f"{name}.weight_{part}"] for part in ("orig", "u", "v"))
        return weight / torch.dot(u, weight.flatten(1) @ v)
    filters = state[f"{name}.weight"].flatten(1)
    standard = (filters - filters.mean(1, keepdim=True)) / (filters.std(1, keepdim=True) + 1e-5)
    return standard.view_as(state[f"{name}.weight"])


def _attention(state: dict[str, Tensor], h: Tensor) -> Tensor:
    def project(part: str) -> Tensor:
        return F.conv2d(h, state[f"self_attn.{part}_conv.weight"], state[f"self_attn.{part}_conv.bias"]).flatten(2)

    weights = torch.softmax(torch.einsum("bci,bcj->bij", project("query"), project("key")), dim=-1)
    mixed = torch.einsum("bcj,bij->bci", project("value"), weights)
    return h + state["self_attn.gamma"] * mixed.view_as(h)
