"""The settings of a linear head: a recipe's [head] section, `--grid`, and the options of fit-head and search."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le, Lt

from featcache.recipe.settings import BelowOne, Count, NonNegative, Positive, Setting


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSettings:
    """How one linear head is trained; the defaults are the ViT paper's recipe for transfer, with 90 epochs."""

    optimizer: Annotated[Literal["sgd", "adam", "adamw"], Setting("The optimizer.", several=True, short="")] = "sgd"
    lr: Annotated[
        Positive,
        Setting("The learning rate of the first step; several train side by side.", several=True, repeated=True),
    ] = 0.003
    momentum: Annotated[BelowOne, Setting("The momentum of sgd.")] = 0.9
    weight_decay: Annotated[
        NonNegative, Setting("Decay of the weights; the bias stays free.", several=True, short="wd")
    ] = 0.0
    schedule: Annotated[
        Literal["cosine", "constant", "plateau"],
        Setting(
            "How the learning rate falls; plateau takes a tenth of it whenever the loss on val has not fallen for "
            "plateau_epochs.",
            short="",
        ),
    ] = "cosine"
    warmup: Annotated[
        NonNegative, Setting("Epochs over which the learning rate rises linearly before the schedule begins.")
    ] = 0.0
    plateau_epochs: Annotated[
        Count, Setting("Epochs without a lower loss on val, for the schedule plateau.", short="plateau")
    ] = 10
    patience: Annotated[
        Count | None,
        Setting(
            "Epochs without a better score on val after which a head stops and keeps its best epoch; by default every "
            "epoch is trained."
        ),
    ] = None
    class_weights: Annotated[
        Literal["none", "balanced"],
        Setting("balanced gives every class the same weight in the loss.", several=True, short="weights"),
    ] = "none"
    sampler: Annotated[
        Literal["uniform", "balanced"],
        Setting("balanced draws a class at random, then one of its rows.", several=True),
    ] = "uniform"
    logit_adjustment: Annotated[
        NonNegative,
        Setting(
            "tau: train on the logits + tau log(class share); 1 is the Bayes rule of macro recall (Menon et al. 2021).",
            several=True,
            short="adjust",
        ),
    ] = 0.0
    label_smoothing: Annotated[
        BelowOne, Setting("The share of a label that is spread evenly over all classes.", several=True, short="smooth")
    ] = 0.0
    standardize: Annotated[
        bool, Setting("Bring each dimension to mean 0 and deviation 1 over the training rows.", several=True)
    ] = False
    clip_norm: Annotated[
        Positive | None,
        Setting("The largest norm of a head's whole gradient, weights and bias together.", short="clip"),
    ] = 1.0
    batch_size: Annotated[int, Ge(1), Le(2**31), Setting("Rows in one step.", short="batch")] = 1024
    epochs: Annotated[int, Ge(1), Le(10_000), Setting("Passes over the training rows.")] = 90
    seed: Annotated[
        int, Ge(0), Lt(2**63), Setting("The seed of the order of the rows; the weights start at zero.", several=True)
    ] = 0


@dataclass(kw_only=True)
class SelectionSettings:
    """How the best of several heads is chosen."""

    select: Annotated[
        Literal["macro_recall", "accuracy", "loss"], Setting("The metric on val that chooses the best head.")
    ] = "macro_recall"
