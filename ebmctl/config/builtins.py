"""What ships with ebmctl, registered through the hooks that any package uses. Imports nothing heavy."""

from __future__ import annotations

from typing import NamedTuple

from ebmctl.config.hookspecs import Register, RegisterRecipes, hookimpl


class Dataset(NamedTuple):
    """A dataset that ships: its factory in `ebmctl.data`, and what `Register` takes besides."""

    name: str
    factory: str
    about: str
    shape: tuple[int, int] | None = (32, 3)
    recipe: str | None = None
    offline: bool = False


DATASETS = (
    Dataset("digits", "digits:make", "1,797 handwritten digits that scikit-learn ships", (16, 1), offline=True),
    Dataset("fashion-mnist", "idx:make_fashion_mnist", "70,000 grey images of clothes", (28, 1), offline=True),
    Dataset("mnist", "idx:make_mnist", "70,000 handwritten digits", (28, 1)),
    Dataset("cifar10", "cifar:make_cifar10", "60,000 colour images of 10 classes, 32x32"),
    Dataset("cifar100", "cifar:make_cifar100", "60,000 colour images of 100 classes, 32x32", recipe="cifar10"),
    Dataset("cifar10-interp", "cifar:make_interpolations", "means of two different CIFAR-10 images each"),
    Dataset("svhn", "svhn:make", "house numbers from street pictures, 32x32", recipe="cifar10"),
    Dataset("textures", "textures:make", "Describable Textures (DTD), 5,640 pictures of 47 kinds"),
    Dataset("textures-top-left", "textures:make_top_left", "the same, cropped to the top left corner unresized"),
    Dataset("imagenet32", "imagenet32:make", "ImageNet at 32x32, 1.28 million images (parquet)"),
    Dataset("celeba", "celeba:make_celeba", "202,599 faces with 40 attributes", (64, 3)),
    Dataset("celebahq", "celeba:make_celebahq", "30,000 faces with 40 attributes", (128, 3), "celebahq128"),
    Dataset("lsun-bedroom", "lsun:make", "3 million bedrooms (lmdb)", (128, 3), "lsun-bedroom128"),
    Dataset("faces", "drawn.faces:make", "55,000 cartoon faces, drawn here, with 4 attributes, 32x32", offline=True),
    Dataset(
        "objects",
        "drawn.objects:make",
        "55,000 shaded solids, drawn here, with 4 attributes, 32x32",
        recipe="faces",
        offline=True,
    ),
    Dataset("noise", "synthetic:make_noise", "uniform noise", shape=None),
    Dataset("constant", "synthetic:make_constant", "images of one colour each", shape=None),
)


@hookimpl
def register_architectures(register: Register) -> None:
    """The residual network, and the denoising one."""
    register(
        "residual",
        "ebmctl.core.nets.residual:ResidualEnergy",
        "residual energy network of several scales (Tables 5 and 6)",
        options="ebmctl.core.config:ResidualConfig",
    )
    register(
        "denoising",
        "ebmctl.core.nets.denoising:DenoisingEnergy",
        "the distance of an image to its denoised version, by a U-Net; for energy-matching",
        options="ebmctl.core.config:DenoisingConfig",
    )


@hookimpl
def register_objectives(register: Register) -> None:
    """The paper's objective, its plain case, and Energy Matching."""
    register(
        "icd",
        "ebmctl.core.cd:ImprovedCD",
        "improved contrastive divergence (Algorithm 1)",
        options="ebmctl.core.config:ICDConfig",
    )
    register(
        "cd",
        "ebmctl.core.cd:ContrastiveDivergence",
        "contrastive divergence without the KL loss",
        options="ebmctl.core.config:CDConfig",
    )
    register(
        "energy-matching",
        "ebmctl.core.matching:EnergyMatching",
        "transport from noise along the energy's gradient (Balcerak et al. 2025)",
        options="ebmctl.core.config:MatchingConfig",
    )


@hookimpl
def register_samplers(register: Register) -> None:
    """Langevin dynamics."""
    register(
        "langevin",
        "ebmctl.core.langevin:Langevin",
        "Langevin dynamics with clamping",
        options="ebmctl.core.config:LangevinConfig",
    )


@hookimpl
def register_augmentations(register: Register) -> None:
    """The paper's augmentation."""
    register(
        "standard",
        "ebmctl.core.augment:augmentation",
        "crop and resize, flip, colour distortion, grey, blur",
        options="ebmctl.core.config:AugmentConfig",
    )


@hookimpl
def register_datasets(register: Register) -> None:
    """The known datasets."""
    for name, factory, about, shape, recipe, offline in DATASETS:
        register(name, f"ebmctl.data.{factory}", about, shape=shape, recipe=recipe, offline=offline)


@hookimpl
def register_recipes(register: RegisterRecipes) -> None:
    """The paper's experiments, and what runs on a laptop."""
    register("ebmctl:recipes")
