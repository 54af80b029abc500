"""Write featcache/recipe/keywords.py: `python -m tests.recipe.write_keywords`.

Editors and mypy read that module, and cannot read a declaration; a test fails where it is not what is written here.
"""

from pathlib import Path

import featcache.recipe
from featcache.recipe import (
    DeclaredSetting,
    DeviceSettings,
    FinetuneSettings,
    HeadSettings,
    SelectionSettings,
    TrunkSettings,
    ViewSettings,
    declared_settings,
)

KEYWORDS = Path(featcache.recipe.__file__).with_name("keywords.py")
HEADER = '''\
"""The settings of a recipe as keywords of Python functions. Written by `python -m tests.recipe.write_keywords`."""

from collections.abc import Sequence
from typing import TypedDict

from featcache.recipe.network_object import NetworkName
from featcache.recipe.own_head import HeadWord
'''


def source() -> str:
    """Return the text of the module."""
    head = declared_settings(HeadSettings, DeviceSettings, ViewSettings, SelectionSettings)
    head.pop("lr")  # the first parameter of fit_head itself; a search always looks for it
    trunk = {name: setting for name, setting in declared_settings(TrunkSettings).items() if setting.declaration.option}
    finetune = declared_settings(FinetuneSettings)
    sections = {"Head": head, "Trunk": trunk, "Finetune": finetune}
    return HEADER + "".join(typed_dict(f"{name}Keywords", name.lower(), part) for name, part in sections.items())


def typed_dict(name: str, section: str, settings: dict[str, DeclaredSetting]) -> str:
    """Return one class."""
    about = f"Settings of a recipe's [{section}] section; None: as the recipe has it."
    keys = "".join(f"    {key}: {type_of(setting)}\n" for key, setting in settings.items())
    return f'\n\nclass {name}(TypedDict, total=False):\n    """{about}"""\n\n{keys}'


def type_of(setting: DeclaredSetting) -> str:
    """Return the type of a keyword: one value, several where a list trains several heads, or None."""
    word = setting.kind.__name__
    if setting.name == "arch":
        word = "NetworkName"  # in Python it may be the network itself
    elif setting.name == "head":
        word = "HeadWord"  # in Python it may be a class of one's own
    elif setting.declaration.is_numbers:
        word = f"{word} | int"
    return f"{word} | Sequence[{word}] | None" if setting.declaration.several else f"{word} | None"


if __name__ == "__main__":
    KEYWORDS.write_text(source(), "utf-8")
