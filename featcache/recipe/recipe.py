"""A recipe, `pipelines/NAME.toml`, as a checked value. Every problem in it is reported at once.

A recipe is data: nothing in it is executed. A flag of the command line wins over the recipe, the recipe over the
defaults of the declarations.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, ValidationError

from featcache.errors import UsageError
from featcache.files import NAME_PATTERN
from featcache.recipe.classifiers import ClassifierName, ClassifierSettings
from featcache.recipe.data import AnyData
from featcache.recipe.features import FeatureSettings
from featcache.recipe.problems import flag_correction, flag_sentence, problem_sentence
from featcache.recipe.sections import AugmentationSection, FinetuneSection, HeadSection, Section, TrunkSection
from featcache.text import counted

COMMAND_LINE = "the command line"  # where what flags say is checked


class Recipe(Section, declares=(FeatureSettings,)):
    """One data set, one trunk, one way to train heads."""

    if TYPE_CHECKING:
        features: str  # mypy cannot see what is declared elsewhere

    name: Annotated[str, Field(pattern=NAME_PATTERN, description="The data set's name in the cache.")]
    data: AnyData
    trunk: TrunkSection = TrunkSection()
    head: HeadSection = HeadSection()
    augmentation: AugmentationSection = AugmentationSection()
    finetune: FinetuneSection = FinetuneSection()
    fit: dict[ClassifierName, ClassifierSettings] = Field(
        default={}, description="For each classifier that `featcache fit` fits, its settings."
    )

    def override(self, section: str, **settings: object) -> "Recipe":
        """Return the same recipe with some settings of a section replaced, checked like the file itself.

        Args:
            section: "data", "trunk", "head", "finetune" or "fit".
            **settings: by the names of the section's keys; None leaves what the recipe says.

        Raises:
            UsageError: with every problem, a line each.
        """
        given = {name: value for name, value in settings.items() if value is not None}
        document = self.model_dump(exclude_unset=True)  # what nobody stated stays unstated
        document[section] = {**document.get(section, {}), **given}
        return check_recipe(document, where=COMMAND_LINE)


def check_recipe(document: Mapping[str, Any], *, where: str) -> Recipe:
    """Return a parsed document as a recipe.

    Args:
        document: the tables of a TOML file.
        where: what an error names as the place of the problems: a path, or `COMMAND_LINE`.

    Raises:
        UsageError: with every problem in it, a line each.
    """
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        keys = tuple(Recipe.model_fields)
        if where == COMMAND_LINE:
            refused = UsageError("\n".join(flag_sentence(problem, keys) for problem in error.errors()))
            refused.corrections = tuple(filter(None, map(flag_correction, error.errors())))
            raise refused from None
        problems = [problem_sentence(problem, keys) for problem in error.errors()]
        count = counted(len(problems), "problem")
        raise UsageError("\n  ".join([f"{where}: {count}", *problems])) from None
