"""The sections of a recipe as pydantic checks them; [trunk] and [head] follow from their declarations."""

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from featcache.errors import UsageError
from featcache.files import expand_home
from featcache.recipe.augmentation import AugmentationSettings
from featcache.recipe.cnn import CNN, CnnSettings
from featcache.recipe.finetune import FinetuneSettings
from featcache.recipe.head import DeviceSettings, HeadSettings, SelectionSettings, ViewSettings
from featcache.recipe.settings import DeclaredSetting, declared_settings
from featcache.recipe.trunk import TrunkSettings


def _expand_home(path: str) -> str:
    try:
        return expand_home(path)
    except UsageError as error:
        raise ValueError(str(error)) from None


Text = Annotated[str, Field(min_length=1)]
PathText = Annotated[str, Field(min_length=1), AfterValidator(_expand_home)]  # a tilde is the home folder


class Section(BaseModel):
    """A table of a recipe: no unknown keys, no conversions between types, no nan.

    `class HeadSection(Section, declares=(HeadSettings,))` has a field for each setting of a declaration, with its
    type, range, default and description.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    def __init_subclass__(cls, *, declares: Sequence[type] = (), **config: Any) -> None:
        super().__init_subclass__(**config)
        settings = declared_settings(*declares)
        declared = {name: _field_type(setting) for name, setting in settings.items()}
        cls.__annotations__ = declared | inspect.get_annotations(cls)
        for name, setting in settings.items():
            setattr(cls, name, (setting.default,) if setting.declaration.several else setting.default)


def _field_type(setting: DeclaredSetting) -> Any:
    """Return the type of pydantic's field for a declared setting."""
    declaration = setting.declaration
    value: Any = Literal[setting.choices] if setting.choices else setting.kind
    if setting.choices and declaration.other_pattern:
        value = Annotated[str, Field(pattern=rf"^(?:{'|'.join(setting.choices)}|{declaration.other_pattern})$")]
    elif declaration.pattern:
        value = Annotated[str, Field(pattern=rf"^(?:{declaration.pattern})$"), BeforeValidator(setting.as_kept)]
    elif setting.kind is str and not setting.choices:
        value = Text if setting.default else str  # "" only where that is what is meant by leaving it out
    elif setting.kind in (int, float):
        value = Annotated[value, Field(gt=declaration.gt, ge=declaration.ge, lt=declaration.lt, le=declaration.le)]
    if setting.optional:
        value = value | None
    if not declaration.several:
        return Annotated[value, Field(description=declaration.help)]
    several = tuple[value, ...]
    return Annotated[several, BeforeValidator(_as_tuple), Field(min_length=1, description=declaration.help)]


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


class CnnSection(Section, CnnSettings, declares=(CnnSettings,)):
    """The network that `arch = "cnn"` names: five blocks of convolution and pooling, and a dense layer."""


class AugmentationSection(Section, AugmentationSettings, declares=(AugmentationSettings,)):
    """What is done to training images, drawn anew in each epoch; 0 is that it is not done. Val and test stay plain."""

    @property
    def is_any(self) -> bool:
        """Whether anything is done."""
        return bool(self.model_dump(exclude_defaults=True))


class TrunkSection(Section, TrunkSettings, declares=(TrunkSettings,)):
    """Which frozen network, and how it is run."""

    cnn: Annotated[CnnSection, Field(description="The settings of the network cnn.")] = CnnSection()

    _expand_weights = field_validator("weights")(_expand_home)

    @model_validator(mode="after")
    def _uses_its_cnn(self) -> "TrunkSection":
        if self.arch != CNN and self.cnn != CnnSection():
            raise ValueError(
                f'[trunk.cnn] has the settings of arch = "{CNN}", and arch is "{self.arch}"; name that arch, or leave '
                f"the table out"
            )
        return self

    @property
    def changes_input(self) -> bool:
        """Whether the network is to get other images than its own."""
        return bool(self.image_size or self.transform or self.interpolate_positions)


class HeadSection(Section, declares=(HeadSettings, DeviceSettings, ViewSettings, SelectionSettings)):
    """How heads are trained; the defaults are the ViT paper's recipe for transfer. Without lr, fit-head trains a
    small grid: `lr`, `weight_decay` and `batch_size` then follow from the number of training rows, unless given.

    A setting that may be a list holds a tuple of its values, and a head is trained for every combination.
    """

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Return a setting: mypy cannot see what is declared elsewhere."""

    @model_validator(mode="after")
    def _warms_up_in_time(self) -> "HeadSection":
        if self.warmup >= self.epochs:
            raise ValueError(f"warmup takes {self.warmup:g} of {self.epochs} epochs; expected fewer")
        return self


class FinetuneSection(Section, FinetuneSettings, declares=(FinetuneSettings,)):
    """How `featcache finetune` trains the network end to end; its metric on val is that of [head], `select`."""

    @model_validator(mode="after")
    def _warms_up_in_time(self) -> "FinetuneSection":
        if self.warmup >= self.epochs:
            raise ValueError(f"warmup takes {self.warmup:g} of {self.epochs} epochs; expected fewer")
        return self
