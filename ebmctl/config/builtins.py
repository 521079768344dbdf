"""What ships with ebmctl, registered through the hooks that any package uses. Imports nothing heavy."""

from __future__ import annotations

from ebmctl.config.hookspecs import Register, RegisterRecipes, hookimpl

DATASETS: dict[str, tuple[str, str]] = {
    "digits": ("ebmctl.data.digits:make", "1,797 handwritten digits that scikit-learn ships"),
    "fashion-mnist": ("ebmctl.data.idx:make_fashion_mnist", "70,000 grey images of clothes"),
    "mnist": ("ebmctl.data.idx:make_mnist", "70,000 handwritten digits"),
    "cifar10": ("ebmctl.data.cifar:make_cifar10", "60,000 colour images of 10 classes, 32x32"),
    "cifar100": ("ebmctl.data.cifar:make_cifar100", "60,000 colour images of 100 classes, 32x32"),
    "cifar10-interp": ("ebmctl.data.cifar:make_interpolations", "means of two different CIFAR-10 images each"),
    "svhn": ("ebmctl.data.svhn:make", "house numbers from street pictures, 32x32"),
    "textures": ("ebmctl.data.textures:make", "Describable Textures (DTD), 5,640 pictures of 47 kinds"),
    "textures-top-left": ("ebmctl.data.textures:make_top_left", "the same, cropped to the top left corner unresized"),
    "imagenet32": ("ebmctl.data.imagenet32:make", "ImageNet at 32x32, 1.28 million images (parquet)"),
    "celeba": ("ebmctl.data.celeba:make_celeba", "202,599 faces with 40 attributes"),
    "celebahq": ("ebmctl.data.celeba:make_celebahq", "30,000 faces with 40 attributes (CelebAMask-HQ)"),
    "lsun-bedroom": ("ebmctl.data.lsun:make", "3 million bedrooms (lmdb)"),
    "faces": ("ebmctl.data.drawn.faces:make", "55,000 cartoon faces that are drawn here, with 4 attributes, 32x32"),
    "objects": (
        "ebmctl.data.drawn.objects:make",
        "55,000 shaded solids that are drawn here, with 4 attributes, 32x32",
    ),
    "noise": ("ebmctl.data.synthetic:make_noise", "uniform noise"),
    "constant": ("ebmctl.data.synthetic:make_constant", "images of one colour each"),
}

NATIVE: dict[str, tuple[int, int]] = {
    "digits": (16, 1),
    "fashion-mnist": (28, 1),
    "mnist": (28, 1),
    "celeba": (64, 3),
    "celebahq": (128, 3),
    "lsun-bedroom": (128, 3),
}


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
    for name, (factory, about) in DATASETS.items():
        register(name, factory, about, shape=NATIVE.get(name))


@hookimpl
def register_recipes(register: RegisterRecipes) -> None:
    """The paper's experiments, and what runs on a laptop."""
    register("ebmctl:recipes")
