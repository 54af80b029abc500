"""The settings of `featcache finetune`: a recipe's [finetune] section, and the options of the command."""

from dataclasses import dataclass
from typing import Annotated, Literal

from featcache.recipe.settings import Setting

FROM_SCRATCH, FROM_WEIGHTS, FROM_HEAD = "scratch", "weights", "head"


@dataclass(kw_only=True)
class FinetuneSettings:
    """Which part of the network is trained end to end, from which start, and how."""

    start: Annotated[
        str,
        Setting(
            "What the training starts from: scratch (random weights), weights (the trunk's), or head NAME (the trunk's "
            "weights with that head in place).",
            pattern=r"scratch|weights|head( \S+)?",
            form="scratch, weights, or head NAME",
        ),
    ] = FROM_WEIGHTS
    unfreeze: Annotated[
        int | None,
        Setting(
            "How many of the network's last blocks are trained beside the head; 0: the head alone.",
            ge=0,
            le=1000,
            unstated="the whole network",
        ),
    ] = None
    optimizer: Annotated[Literal["sgd", "adam", "adamw"], Setting("The optimizer.", short="")] = "adamw"
    lr: Annotated[float, Setting("Learning rate of the head, and of the last block.", gt=0)] = 1e-4
    layer_decay: Annotated[
        float,
        Setting("What the learning rate is multiplied by from each block to the one before it.", gt=0, le=1),
    ] = 1.0
    momentum: Annotated[float, Setting("The momentum of sgd.", ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Setting("Decay of the weights; biases and normalisations stay free.", ge=0)] = 0.05
    schedule: Annotated[
        Literal["cosine", "constant", "plateau"],
        Setting(
            "How the learning rate falls; plateau divides it by 10 whenever the loss on val has not fallen for "
            "plateau_epochs."
        ),
    ] = "cosine"
    warmup: Annotated[
        float, Setting("Epochs over which the learning rate rises linearly before the schedule begins.", ge=0)
    ] = 0.0
    plateau_epochs: Annotated[
        int, Setting("Epochs without a lower loss on val, for the schedule plateau.", ge=1, le=2**31)
    ] = 10
    patience: Annotated[
        int | None,
        Setting(
            "Epochs without a better score on val after which the training stops and keeps its best epoch; by default "
            "every epoch is trained.",
            ge=1,
            le=2**31,
        ),
    ] = None
    class_weights: Annotated[
        Literal["none", "balanced"],
        Setting("What a class weighs in the loss; balanced: each the same, however many rows it has."),
    ] = "none"
    label_smoothing: Annotated[
        float, Setting("The share of a label that is spread evenly over all classes.", ge=0, lt=1)
    ] = 0.0
    clip_norm: Annotated[float | None, Setting("The largest norm of the whole gradient.", gt=0)] = 1.0
    batch_size: Annotated[int, Setting("Images in one forward and backward pass.", ge=1, le=65_536)] = 32
    accumulate: Annotated[
        int, Setting("Batches whose gradients are added up before a step of the optimizer.", ge=1, le=65_536)
    ] = 1
    ema: Annotated[
        float,
        Setting(
            "Keep an exponential moving average of the weights with this decay a step, and use that; 0: none.",
            ge=0,
            lt=1,
        ),
    ] = 0.0
    mixed: Annotated[
        Literal["none", "bf16", "fp16"],
        Setting("Arithmetic of the matrix products; none is float32 throughout, fp16 needs a CUDA device."),
    ] = "none"
    epochs: Annotated[int, Setting("Passes over the training images.", ge=1, le=10_000)] = 10
    seed: Annotated[
        int,
        Setting(
            "Seed of random first weights, of the order of the images, of dropout and augmentation.", ge=0, lt=2**63
        ),
    ] = 0
