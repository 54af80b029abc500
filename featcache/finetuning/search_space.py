"""What a search over fine-tunings varies: the settings of a training, the shape of the network cnn, and augmentation.

The names, and the choices of those that are words, come from the declarations; what is given is held fixed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from featcache.finetuning.augmentation_text import read_augmentation
from featcache.finetuning.command import FinetuneJob
from featcache.finetuning.settings import SETTINGS
from featcache.finetuning.start import find_start
from featcache.heads import settings_of_classes
from featcache.recipe import CNN, FROM_SCRATCH, AugmentationSection, CnnSection, CnnSettings, declared_settings

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

_CNN_SETTINGS = declared_settings(CnnSettings)
_AUGMENT = "augment"
_NONE = "none"

Suggestion = Callable[["BaseTrial"], Any]


def _choice(name: str, choices: "tuple[Any, ...] | list[Any]") -> Suggestion:
    return lambda trial: trial.suggest_categorical(name, list(choices))


TRAINING_SPACE: dict[str, Suggestion] = {
    "optimizer": _choice("optimizer", SETTINGS["optimizer"].choices),
    "lr": lambda trial: trial.suggest_float("lr", 1e-5, 1e-1, log=True),
    "weight_decay": lambda trial: trial.suggest_float("weight_decay", 1e-6, 1e-1, log=True),
    "layer_decay": lambda trial: trial.suggest_float("layer_decay", 0.5, 1.0, step=0.05),
    "label_smoothing": lambda trial: trial.suggest_float("label_smoothing", 0.0, 0.2, step=0.05),
}
CNN_SPACE: dict[str, Suggestion] = {
    "filters": _choice("filters", [16, 32, 64]),
    "progression": _choice("progression", _CNN_SETTINGS["progression"].choices),
    "filter_size": _choice("filter_size", ["3", "5", "7"]),
    "activation": _choice("activation", _CNN_SETTINGS["activation"].choices),
    "batch_norm": _choice("batch_norm", [False, True]),
    "dense": _choice("dense", [64, 128, 256, 512]),
    "dropout": lambda trial: trial.suggest_float("dropout", 0.0, 0.5, step=0.1),
}


@dataclass(frozen=True, slots=True, eq=False)
class FinetuneSpace:
    """The settings that are searched, and the fine-tuning that has all others."""

    base: FinetuneJob
    training: tuple[str, ...]
    cnn: tuple[str, ...]  # of the network cnn, where it is trained from scratch
    searches_augmentation: bool  # whether that of the recipe is done, or nothing

    @property
    def names(self) -> tuple[str, ...]:
        """What is searched."""
        return (*self.training, *self.cnn, *([_AUGMENT] if self.searches_augmentation else []))

    def suggest(self, trial: "BaseTrial") -> dict[str, Any]:
        """Return the settings that a trial stands for; numbers have three digits, as a person would type them."""
        values = {name: TRAINING_SPACE[name](trial) for name in self.training}
        values |= {name: CNN_SPACE[name](trial) for name in self.cnn}
        if self.searches_augmentation:
            values[_AUGMENT] = trial.suggest_categorical(_AUGMENT, ["recipe", _NONE])
        return {name: float(f"{value:.3g}") if isinstance(value, float) else value for name, value in values.items()}

    def job(self, values: Mapping[str, Any]) -> FinetuneJob:
        """Return the fine-tuning with these settings.

        Args:
            values: As `suggest` returned them.
        """
        base = self.base
        section = base.section.model_copy(update={name: values[name] for name in self.training})
        augmentation = read_augmentation(_NONE) if values.get(_AUGMENT) == _NONE else base.augmentation
        job = replace(base, section=section, augmentation=augmentation)
        if not self.cnn:
            return job
        shape = {**base.network.cnn.model_dump(), **{name: values[name] for name in self.cnn}}
        network = base.network.model_copy(update={"cnn": CnnSection(**shape)})
        return replace(job, network=network, start=find_start(base.request, section, network))


def find_space(job: FinetuneJob, given: Mapping[str, object]) -> FinetuneSpace:
    """Return what is searched around a fine-tuning.

    Args:
        job: What is asked for.
        given: Settings by name, those of [trunk.cnn] and `augment` included; what is not None is held fixed.
    """
    section = job.section
    is_scratch = section.start == FROM_SCRATCH
    left_out = {"layer_decay"} if is_scratch or section.unfreeze == 0 else set()
    left_out |= set(settings_of_classes(job.request.recipe.data.target_kind))
    is_searched = {name for name in (*TRAINING_SPACE, *CNN_SPACE, _AUGMENT) if given.get(name) is None} - left_out
    return FinetuneSpace(
        base=job,
        training=tuple(name for name in TRAINING_SPACE if name in is_searched),
        cnn=tuple(name for name in CNN_SPACE if name in is_searched and is_scratch and job.network.arch == CNN),
        searches_augmentation=_AUGMENT in is_searched and job.augmentation != AugmentationSection(),
    )
