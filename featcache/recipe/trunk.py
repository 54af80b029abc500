"""The settings of the trunk: a recipe's [trunk] section, and the options of extract."""

from dataclasses import dataclass
from typing import Annotated, Literal

from featcache.recipe.settings import Setting

LIBRARY_PREFIXES = ("timm", "hf", "open_clip")
OWN_WEIGHTS = "own"  # those that a module of one's own comes with


def is_import_path(arch: str) -> bool:
    """Return whether a trunk is named by what makes it, `package.module:callable`: importing that runs code.

    Args:
        arch: As `--arch` has it.
    """
    prefix, colon, _ = arch.partition(":")
    return bool(colon) and prefix not in LIBRARY_PREFIXES


def is_own_weights(arch: str, weights: str) -> bool:
    """Return whether weights are named as those that a module of one's own comes with.

    Args:
        arch: As `--arch` has it.
        weights: As typed, or as a store has them: "own", or "pretrained" as in earlier versions.
    """
    return is_import_path(arch) and weights in (OWN_WEIGHTS, "pretrained")


@dataclass(kw_only=True)
class TrunkSettings:
    """Which frozen network, and how it is run."""

    arch: Annotated[
        str,
        Setting(
            "The network: a name of torchvision's, timm:NAME, hf:ORG/NAME, hf:FOLDER, open_clip:NAME/TAG, or cnn (its "
            "shape: [trunk.cnn]); or, typed and never in a recipe, package.module:callable. `featcache trunks` lists "
            "them."
        ),
    ] = "vit_b_16"
    weights: Annotated[
        str, Setting("A published name, a .pth or .safetensors file, or random; of other libraries pretrained.")
    ] = "IMAGENET1K_V1"
    layer: Annotated[
        str,
        Setting(
            "What is kept of a forward: auto, cls, mean, pooled, cls@-2, tokens, grid4, name:MODULE; several at once.",
            several=True,
            repeated=True,
        ),
    ] = "auto"
    image_size: Annotated[
        int, Setting("Edge of the input, pixels, of a network that is built for one size; 0 is its own.", ge=0, le=2048)
    ] = 0
    interpolate_positions: Annotated[
        bool, Setting("Interpolate position embeddings that are for another image size, which are refused otherwise.")
    ] = False
    transform: Annotated[
        str, Setting("What is done to images, where it is not the network's own: resize=36,crop=32,mean=0.5,std=0.5.")
    ] = ""
    precision: Annotated[Literal["auto", "fp32", "bf16"], Setting("Arithmetic of the forward pass.")] = "auto"
    stored: Annotated[
        Literal["auto", "float32", "float16"],
        Setting("Type of the embeddings on disk; auto is float32, and float16 of tokens and grids."),
    ] = "auto"
    views: Annotated[
        int,
        Setting(
            "How many augmented views of each image are embedded beside the plain one; each costs a forward.",
            ge=0,
            le=99,
        ),
    ] = 0
    augment: Annotated[
        str,
        Setting(
            "What a view is: flip, crop and color, each with a strength or without, as in flip,crop=0.3,color=0.2; "
            "seed=1 draws others; none is the plain image."
        ),
    ] = "flip,crop"
    exif: Annotated[
        Literal["ignore", "apply"], Setting("What is done with a photograph's orientation tag.", option=False)
    ] = "ignore"
    decode: Annotated[
        Literal["exact", "fast", "gpu"],
        Setting("How images become pixels; only exact is bit-equal to torchvision, and each has a store of its own."),
    ] = "exact"
