"""Augmentation as it is typed, `--augment flip,crop=0.3,mixup`; the words of views mean here what they mean there."""

from typing import Any

from featcache.arguments import nearest_name
from featcache.errors import UsageError
from featcache.media import DEFAULT_STRENGTHS
from featcache.recipe import AugmentationSection, AugmentationSettings, DeclaredSetting, declared_settings

USUAL_STRENGTHS = {
    **DEFAULT_STRENGTHS, "vertical_flip": 0.5, "rotation": 15.0, "randaugment": 9, "erase": 0.25, "mixup": 0.2,
    "cutmix": 1.0,
}  # fmt: skip
_SETTINGS = declared_settings(AugmentationSettings)
_NONE = "none"


def read_augmentation(text: str) -> AugmentationSection:
    """Return what is typed as the section [augmentation] of a recipe has it.

    Args:
        text: "none", or names with commas between them, each with or without a strength: "flip,crop=0.3,mixup".

    Raises:
        UsageError: a word that is no name, twice the same, or a strength out of its range.
    """
    words = text.replace(" ", "").split(",")
    if words == [_NONE]:
        return AugmentationSection()
    values: dict[str, Any] = {}
    for word in words:
        name, equals, strength = word.partition("=")
        if name not in _SETTINGS or name in values or bool(equals) != bool(strength):
            raise _refusal(text, word)
        values[name] = _read_strength(text, _SETTINGS[name], strength) if strength else USUAL_STRENGTHS[name]
    return AugmentationSection(**values)


def describe_augmentation(section: AugmentationSection) -> str:
    """Return what is done in the words of `--augment`; "none" for nothing.

    Args:
        section: The section [augmentation] of a recipe.
    """
    strengths = {name: getattr(section, name) for name in _SETTINGS}
    words = [
        name if strength == USUAL_STRENGTHS[name] else f"{name}={strength:.15g}"
        for name, strength in strengths.items()
        if strength
    ]
    return ",".join(words) or _NONE


def _read_strength(text: str, setting: DeclaredSetting, strength: str) -> float:
    try:
        value: float = setting.kind(strength)
    except ValueError:
        value = float("nan")
    if setting.accepts(value):
        return value
    raise UsageError(f"--augment {text}: found {setting.name}={strength}, expected {setting.expected}").correct(
        "--augment", setting.name
    )


def _refusal(text: str, word: str) -> UsageError:
    near = nearest_name(word.partition("=")[0], _SETTINGS) or "flip,crop"
    expected = "none, or names separated by commas, each with or without a strength, as flip,crop=0.3: "
    return UsageError(f"--augment {text}: found {word!r}, expected {expected}{', '.join(_SETTINGS)}").correct(
        "--augment", near
    )
