"""The settings of a head: a recipe's [head] section, `--grid`, and the options of fit-head and search."""

from dataclasses import dataclass
from typing import Annotated, Literal

from featcache.recipe.modules import LINEAR, ON_VECTORS, ModuleSettings
from featcache.recipe.settings import Setting


@dataclass(frozen=True, kw_only=True)
class HeadSettings(ModuleSettings):
    """Which head is trained, and how; the defaults are the ViT paper's recipe for transfer, with 90 epochs."""

    optimizer: Annotated[Literal["sgd", "adam", "adamw"], Setting("The optimizer.", several=True, short="")] = "sgd"
    lr: Annotated[
        float,
        Setting(
            "Learning rate of the first step; several train side by side.",
            gt=0,
            several=True,
            repeated=True,
            unstated="several, of which val chooses",
        ),
    ] = 0.003
    momentum: Annotated[float, Setting("The momentum of sgd.", ge=0, lt=1)] = 0.9
    weight_decay: Annotated[
        float,
        Setting(
            "Decay of the weights; the bias stays free.",
            ge=0,
            several=True,
            short="wd",
            unstated="0.0; without lr several, of which val chooses",
        ),
    ] = 0.0
    schedule: Annotated[
        Literal["cosine", "constant", "plateau"],
        Setting(
            "How the learning rate falls; plateau divides it by 10 whenever the loss on val has not fallen for "
            "plateau_epochs.",
            short="",
        ),
    ] = "cosine"
    warmup: Annotated[
        float, Setting("Epochs over which the learning rate rises linearly before the schedule begins.", ge=0)
    ] = 0.0
    plateau_epochs: Annotated[
        int, Setting("Epochs without a lower loss on val, for the schedule plateau.", ge=1, le=2**31, short="plateau")
    ] = 10
    patience: Annotated[
        int | None,
        Setting(
            "Epochs without a better score on val after which a head stops and keeps its best epoch; by default every "
            "epoch is trained.",
            ge=1,
            le=2**31,
        ),
    ] = None
    loss: Annotated[
        Literal["cross_entropy", "binary_cross_entropy", "squared_error", "huber"],
        Setting(
            "What is minimised; of numbers squared_error or huber, whose errors count in deviations of the number.",
            short="",
            unstated="cross_entropy of one class, binary_cross_entropy of several labels, squared_error of numbers",
        ),
    ] = "cross_entropy"
    huber_delta: Annotated[
        float,
        Setting(
            "For the loss huber: the error from which on it grows linearly, in deviations of the number.",
            gt=0,
            short="delta",
        ),
    ] = 1.0
    class_weights: Annotated[
        Literal["none", "balanced"],
        Setting(
            "What a class weighs in the loss; balanced: each the same, however many rows it has. Of several labels a "
            "row, the rows that have a label weigh as much as those that lack it.",
            several=True,
            short="weights",
        ),
    ] = "none"
    sampler: Annotated[
        Literal["uniform", "balanced"],
        Setting("How training rows are drawn; balanced: a class at random, then one of its rows.", several=True),
    ] = "uniform"
    logit_adjustment: Annotated[
        float,
        Setting(
            "tau: the loss is that of logits + tau log(class share); 1 is the Bayes rule of macro recall (Menon et al. "
            "2021).",
            ge=0,
            several=True,
            short="adjust",
        ),
    ] = 0.0
    label_smoothing: Annotated[
        float,
        Setting(
            "The share of a label that is spread evenly over all classes.", ge=0, lt=1, several=True, short="smooth"
        ),
    ] = 0.0
    standardize: Annotated[
        bool,
        Setting(
            "Train on each dimension brought to mean 0 and deviation 1 over the training rows; the head takes the "
            "embeddings as they are.",
            several=True,
            heads=ON_VECTORS,
        ),
    ] = False
    normalize: Annotated[
        Literal["none", "l2"],
        Setting(
            "Whether embeddings are scaled to length 1, in training and in every prediction: for features that are "
            "compared by angle; of several features each part by itself.",
            several=True,
            heads=ON_VECTORS,
            short="",
        ),
    ] = "none"
    views: Annotated[
        bool,
        Setting(
            "Train on the views of the training images that were embedded: each step draws one of an image's views.",
            several=True,
            heads=ON_VECTORS,
        ),
    ] = False
    matmul_precision: Annotated[
        Literal["fp32", "bf16"],
        Setting(
            "How a linear head's two matrix products multiply: numbers of 32 bits, or ones rounded to bfloat16, whose "
            "products are added in float32; that changes weights by some 0.1 % of their norm, by more where columns' "
            "means are far above their deviations and --standardize is off. bf16 is for large grids, on CPUs that have "
            "AVX-512 BF16.",
            several=True,
            heads=(LINEAR,),
            short="",
        ),
    ] = "fp32"
    clip_norm: Annotated[
        float | None,
        Setting("The largest norm of a head's whole gradient, weights and bias together.", gt=0, short="clip"),
    ] = 1.0
    batch_size: Annotated[
        int,
        Setting(
            "Rows in one step.",
            ge=1,
            le=2**31,
            short="batch",
            unstated="1024; for fit-head without lr at most a tenth of the training rows",
        ),
    ] = 1024
    epochs: Annotated[int, Setting("Passes over the training rows.", ge=1, le=10_000)] = 90
    seed: Annotated[
        int,
        Setting(
            "Seed of the order of the rows, and of a module's first weights and dropout; a linear head starts at zero.",
            ge=0,
            lt=2**63,
            several=True,
        ),
    ] = 0


@dataclass(kw_only=True)
class DeviceSettings:
    """Where the heads of a training may be computed."""

    exact: Annotated[
        bool,
        Setting(
            "Never train on a GPU. On the CPU a head has the same bits alone and among any others, on any number of "
            "threads, with or without this setting; a GPU does not promise that."
        ),
    ] = False


@dataclass(kw_only=True)
class ViewSettings:
    """Which views a training draws from."""

    augment: Annotated[
        str,
        Setting(
            "Which set of views, as --augment of extract named it; needed where there are several.",
            unstated="the only one",
        ),
    ] = ""


@dataclass(kw_only=True)
class SelectionSettings:
    """How the best of several heads is chosen."""

    select: Annotated[
        Literal[
            "macro_recall",
            "accuracy",
            "loss",
            "mean_average_precision",
            "macro_f1",
            "micro_f1",
            "r2",
            "mae",
            "rmse",
            "spearman",
        ],
        Setting(
            "The metric on val that chooses the best head; of several labels a row mean_average_precision, macro_f1 "
            "or micro_f1, of numbers r2, mae, rmse or spearman, of anything the loss.",
            unstated="macro_recall; mean_average_precision of several labels, r2 of numbers",
        ),
    ] = "macro_recall"
