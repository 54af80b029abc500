"""The architectures that featcache runs: their shapes, their published weights, their transforms. No torch here.

A test holds every number against torchvision's own; they stand here so that a command that embeds nothing need not
import torch to know which store it means.
"""

import os
from dataclasses import dataclass, field, replace

from featcache.arguments import nearest_name
from featcache.errors import UsageError
from featcache.media import ImageTransform
from featcache.trunks.downloads import published_sha256

RANDOM = "random"
# .ckpt is Lightning's; the last five are none that a trunk can be read from, which is said once they are looked at.
_SUFFIXES = (".pth", ".pt", ".bin", ".safetensors", ".ckpt", ".tar", ".npz", ".onnx", ".h5", ".pkl")

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_IMAGENET = ImageTransform(resize=256, crop=224, mean=_MEAN, std=_STD)
_IMAGENET_242 = replace(_IMAGENET, resize=242)
_SWAG_LINEAR = ImageTransform(resize=224, crop=224, mean=_MEAN, std=_STD, interpolation="bicubic")
_SWAG_384 = replace(_SWAG_LINEAR, resize=384, crop=384)
_SWAG_512 = replace(_SWAG_LINEAR, resize=512, crop=512)


@dataclass(frozen=True, slots=True)
class PublishedWeights:
    """One of torchvision's named weights."""

    file: str  # as torch.hub keeps it; the 8 hex digits are the start of its sha256
    transform: ImageTransform

    @property
    def prefix(self) -> str:
        """The start of the file's sha256, 8 hex digits."""
        return published_sha256(self.file)


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A Vision Transformer (Dosovitskiy et al., 2021, table 1)."""

    name: str
    patch: int  # edge of a patch, pixels
    dim: int  # width of a token, and of the embedding
    depth: int  # encoder blocks
    heads: int  # of attention
    mlp: int  # width inside a block's MLP
    transform: ImageTransform = _IMAGENET  # for weights from a file, and random ones
    published: dict[str, PublishedWeights] = field(default_factory=dict)

    def tokens(self, crop: int) -> int:
        """Return how many tokens an image has: its patches, and the class token.

        Args:
            crop: The edge of the square image, pixels.
        """
        return (crop // self.patch) ** 2 + 1

    def frozen_parameters(self, crop: int | None = None) -> int:
        """Return how many parameters it has but for the classifier's.

        Args:
            crop: The images' edge, pixels, on which the position embeddings depend; None: that of its own transform.
        """
        dim = self.dim
        patches = 3 * self.patch**2 * dim + dim
        positions = self.tokens(crop or self.transform.crop) * dim
        attention = 4 * dim * dim + 4 * dim
        mlp = 2 * dim * self.mlp + self.mlp + dim
        return patches + dim + positions + self.depth * (attention + mlp + 4 * dim) + 2 * dim

    def shapes(self, crop: int) -> dict[str, tuple[int, ...]]:
        """Return torchvision's name and the shape of every tensor but the classifier's, in torchvision's order.

        Args:
            crop: The images' edge, pixels, on which the position embeddings depend.
        """
        dim = self.dim
        shapes: dict[str, tuple[int, ...]] = {
            "class_token": (1, 1, dim),
            "conv_proj.weight": (dim, 3, self.patch, self.patch),
            "conv_proj.bias": (dim,),
            "encoder.pos_embedding": (1, self.tokens(crop), dim),
        }
        for number in range(self.depth):
            block = {
                "ln_1.weight": (dim,), "ln_1.bias": (dim,),
                "self_attention.in_proj_weight": (3 * dim, dim), "self_attention.in_proj_bias": (3 * dim,),
                "self_attention.out_proj.weight": (dim, dim), "self_attention.out_proj.bias": (dim,),
                "ln_2.weight": (dim,), "ln_2.bias": (dim,),
                "mlp.0.weight": (self.mlp, dim), "mlp.0.bias": (self.mlp,),
                "mlp.3.weight": (dim, self.mlp), "mlp.3.bias": (dim,),
            }  # fmt: skip
            shapes |= {f"encoder.layers.encoder_layer_{number}.{name}": shape for name, shape in block.items()}
        return {**shapes, "encoder.ln.weight": (dim,), "encoder.ln.bias": (dim,)}

    def head_parameters(self, classes: int) -> int:
        """Return how many parameters a linear layer on the embedding has, bias included.

        Args:
            classes: How many outputs the layer has.
        """
        return (self.dim + 1) * classes


ARCHITECTURES = {
    arch.name: arch
    for arch in (
        Architecture(
            name="vit_b_16", patch=16, dim=768, depth=12, heads=12, mlp=3072,
            published={
                "IMAGENET1K_V1": PublishedWeights("vit_b_16-c867db91.pth", _IMAGENET),
                "IMAGENET1K_SWAG_E2E_V1": PublishedWeights("vit_b_16_swag-9ac1b537.pth", _SWAG_384),
                "IMAGENET1K_SWAG_LINEAR_V1": PublishedWeights("vit_b_16_lc_swag-4e70ced5.pth", _SWAG_LINEAR),
            },
        ),
        Architecture(
            name="vit_b_32", patch=32, dim=768, depth=12, heads=12, mlp=3072,
            published={"IMAGENET1K_V1": PublishedWeights("vit_b_32-d86f8d99.pth", _IMAGENET)},
        ),
        Architecture(
            name="vit_l_16", patch=16, dim=1024, depth=24, heads=16, mlp=4096, transform=_IMAGENET_242,
            published={
                "IMAGENET1K_V1": PublishedWeights("vit_l_16-852ce7e3.pth", _IMAGENET_242),
                "IMAGENET1K_SWAG_E2E_V1": PublishedWeights("vit_l_16_swag-4f3808c9.pth", _SWAG_512),
                "IMAGENET1K_SWAG_LINEAR_V1": PublishedWeights("vit_l_16_lc_swag-4d563306.pth", _SWAG_LINEAR),
            },
        ),
        Architecture(
            name="vit_l_32", patch=32, dim=1024, depth=24, heads=16, mlp=4096,
            published={"IMAGENET1K_V1": PublishedWeights("vit_l_32-c7638314.pth", _IMAGENET)},
        ),
        # Two small blocks at 64 pixels: nobody published weights for it. It drives the whole pipeline in a second,
        # for tests and for a first try of a recipe.
        Architecture(
            name="vit_nano_16", patch=16, dim=64, depth=2, heads=2, mlp=128,
            transform=ImageTransform(resize=72, crop=64, mean=_MEAN, std=_STD),
        ),
    )
}  # fmt: skip


def architecture(name: str) -> Architecture:
    """Return the architecture of this name.

    Args:
        name: A key of `ARCHITECTURES`, such as "vit_b_16".

    Raises:
        UsageError: there is none.
    """
    if name not in ARCHITECTURES:
        error = UsageError(f"no architecture {name!r}; expected one of {', '.join(ARCHITECTURES)}")
        raise error.correct("--arch", nearest_name(name, ARCHITECTURES) or next(iter(ARCHITECTURES)))
    return ARCHITECTURES[name]


def weights_kind(arch: Architecture, weights: str) -> str:
    """Return what `--weights` names: "published", "file" or "random".

    Args:
        arch: The network.
        weights: A published name, a file, or "random".

    Raises:
        UsageError: none of them.
    """
    if weights == RANDOM:
        return "random"
    if weights in arch.published:
        return "published"
    if is_weights_file(weights):
        return "file"
    names = ", ".join([*arch.published, "a .pth or .safetensors file", RANDOM])
    error = UsageError(f"weights {weights!r}: no published weights of {arch.name} have this name; expected {names}")
    raise error.correct(
        "--weights", nearest_name(weights, [*arch.published, RANDOM]) or next(iter(arch.published), RANDOM)
    )


def is_weights_file(weights: str) -> bool:
    """Return whether weights are named as a file is: by a suffix, or in a folder.

    Args:
        weights: As `--weights` has them.
    """
    return weights.endswith(_SUFFIXES) or os.sep in weights
