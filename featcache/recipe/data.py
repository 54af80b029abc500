"""The [data] section of a recipe: which images, one set of keys for each layout."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from featcache.recipe.options import SPLIT_SEEDS
from featcache.recipe.patterns import check_frame_pattern, check_video_pattern
from featcache.recipe.sections import PathText, Section, Text

_Share = Annotated[float, Field(gt=0, lt=1)]  # of the data set's rows
_Rows = Annotated[int, Field(ge=1, le=99_999)]

LEVELS = ("midlevel", "tasklevel", "objectlevel")  # of Drive&Act's annotations; the first is the default
ACTIVITY = "activity"  # the column that midlevel and tasklevel have to predict
MOST_FOLD = 999  # the highest number of a fold that a table names
LABEL, LABELS, VALUE = "label", "labels", "value"  # what a row has to be predicted: one class, several labels, numbers


def _as_names(names: object) -> object:
    """Return a list of TOML as a tuple, and one name alone as a tuple of it."""
    if isinstance(names, str):
        return (names,)
    return tuple(names) if isinstance(names, list) else names


_Names = Annotated[tuple[Text, ...], BeforeValidator(_as_names)]


class SplitSection(Section):
    """The splits that a data set lacks: `val` and `test` are taken from its train split."""

    val: Annotated[_Share | None, Field(description="The share of the rows that become val.")] = None
    test: Annotated[_Share | None, Field(description="The share of the rows that become test.")] = None
    by: Annotated[
        Literal["subject", "clip", "image"],
        Field(description="What is never divided: all rows of one subject, clip or image go to one split."),
    ]
    seed: Annotated[
        int,
        Field(ge=SPLIT_SEEDS.start, lt=SPLIT_SEEDS.stop, description="Another seed, another division."),
    ] = SPLIT_SEEDS.start

    @property
    def shares(self) -> dict[str, float]:
        """The share of the rows that each split gets, train first; they add up to 1."""
        stated = {name: share for name, share in (("val", self.val), ("test", self.test)) if share is not None}
        return {"train": 1 - sum(stated.values()), **stated}

    @model_validator(mode="after")
    def _leaves_a_train_split(self) -> "SplitSection":
        if len(self.shares) == 1:
            raise ValueError("expected val, test, or both, each with its share of the rows")
        if self.shares["train"] <= 0:
            raise ValueError("val and test leave nothing to train on; expected shares that add up to less than 1")
        return self


class DataSection(Section):
    """Which images: the keys of every layout."""

    layout: Annotated[
        Literal["folder", "drive-act", "table", "container"], Field(description="How the data set is laid out.")
    ]
    root: Annotated[
        PathText, Field(description="The folder of the data set; relative to the folder that a command is typed in.")
    ]
    split: Annotated[SplitSection | None, Field(description="The splits that the data set lacks.")] = None

    @property
    def target_kind(self) -> str:
        """What a row has to be predicted: LABEL, LABELS or VALUE. Only a table has another than one class."""
        return LABEL


class FolderData(DataSection):
    """<root>/<split>/<class>/.../image."""

    layout: Annotated[Literal["folder"], Field(description="Images in folders.")] = "folder"


class DriveActData(DataSection):
    """Drive&Act's annotations, and below the root its frames in folders, or its videos."""

    layout: Annotated[Literal["drive-act"], Field(description="Drive&Act.")] = "drive-act"
    annotations: Annotated[
        PathText | None,
        Field(description="The folder of the annotations; by default <root>/iccv_activities_3s/activities_3s."),
    ] = None
    view: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,23}$", description="The camera, such as kinect_color.")
    ]
    fold: Annotated[int, Field(ge=0, le=2, description="The published fold: 0, 1 or 2.")]
    level: Annotated[
        Literal["midlevel", "tasklevel", "objectlevel"],
        Field(description="Which annotations: those of activities, of tasks, or of actions with their objects."),
    ] = "midlevel"
    target: Annotated[
        Text | None,
        Field(
            description="The column of the annotations that is predicted, where a level has several; objectlevel has "
            'them, the others have "activity".'
        ),
    ] = None
    frames_per_chunk: Annotated[
        _Rows | None, Field(description="How many of a chunk's first frames are taken; by default all.")
    ] = None
    stride: Annotated[
        _Rows, Field(description="Frames from one row of a chunk to the next: 2 takes every second one.")
    ] = 1
    frames: Annotated[
        Annotated[str, AfterValidator(check_frame_pattern)] | None,
        Field(description="Where a frame lies below the root: {file_id}/img_{frame:06d}.png."),
    ] = None
    videos: Annotated[
        Annotated[str, AfterValidator(check_video_pattern)] | None,
        Field(
            description="Where a video lies below the root: {view}/{file_id}.mp4. Where a recipe names neither frames "
            "nor videos, the ones that are there are read."
        ),
    ] = None

    @model_validator(mode="after")
    def _has_one_kind_of_frames(self) -> "DriveActData":
        if self.frames is not None and self.videos is not None:
            raise ValueError("frames and videos are both named; leave one of them out")
        return self


class TableData(DataSection):
    """A CSV or Parquet file that names images and labels; relative paths are relative to it."""

    layout: Annotated[Literal["table"], Field(description="A table of images.")] = "table"
    table: Annotated[PathText, Field(description="The table: below the root, or an absolute path.")]
    path_column: Annotated[Text, Field(description="The column of the images' paths.")] = "path"
    targets: Annotated[
        Literal["label", "labels", "value"],
        Field(description="What a row has to be predicted: one class, several labels, or one or several numbers."),
    ] = "label"
    label_column: Annotated[Text, Field(description="The column of the classes, or of the labels of each row.")] = (
        "label"
    )
    label_separator: Annotated[
        Text | None, Field(description='What stands between the labels of a cell; by default "|".')
    ] = None
    label_names: Annotated[
        _Names | None,
        Field(description="The labels that there are, in the order of the outputs; by default those that occur."),
    ] = None
    target_columns: Annotated[
        _Names | None,
        Field(description='The columns of the numbers, by default "value"; or of labels, each a column of 0 and 1.'),
    ] = None
    split_column: Annotated[
        Text | None,
        Field(description='The column of the splits; by default "split" where there is one, else every row is train.'),
    ] = None
    clip_column: Annotated[
        Text | None, Field(description='The column of the clips; by default "clip" where there is one.')
    ] = None
    subject_column: Annotated[
        Text | None, Field(description='The column of the subjects; by default "subject" where there is one.')
    ] = None
    fold_column: Annotated[
        Text | None,
        Field(description="The column of the folds, whole numbers: the rows of one fold, which fold names, are test."),
    ] = None
    fold: Annotated[
        Annotated[int, Field(ge=0, le=MOST_FOLD)] | None,
        Field(description="With fold_column: the fold whose rows are test; --fold and --folds name others."),
    ] = None

    @property
    def target_kind(self) -> str:
        """What a row has to be predicted: LABEL, LABELS or VALUE."""
        return self.targets

    @property
    def columns_of_targets(self) -> tuple[str, ...]:
        """The columns that hold the targets of a row: one of cells, or one for each label or number."""
        if self.target_columns is not None:
            return self.target_columns
        return ("value",) if self.targets == VALUE else (self.label_column,)

    @property
    def separator(self) -> str:
        """What stands between the labels of a cell."""
        return self.label_separator or "|"

    @model_validator(mode="after")
    def _has_settings_of_its_targets(self) -> "TableData":
        in_cells = self.targets == LABELS and self.target_columns is None
        for name in ("label_separator", "label_names"):
            if getattr(self, name) is not None and not in_cells:
                raise ValueError(f'{name} is for cells with several labels: targets = "labels", without target_columns')
        if self.target_columns is not None and self.targets == LABEL:
            raise ValueError('target_columns has no effect with one class a row; set targets to "labels" or "value"')
        if "label_column" in self.model_fields_set and self.targets != LABEL and not in_cells:
            raise ValueError("label_column has no effect beside the columns of the targets; leave it out")
        if (self.fold_column is None) != (self.fold is None):
            raise ValueError(
                "fold_column and fold belong together: fold_column names the column, fold whose rows are "
                "test, such as fold = 0"
            )
        for name in ("label_names", "target_columns"):
            names = getattr(self, name)
            if names is not None and (not names or len(set(names)) < len(names)):
                raise ValueError(f"{name}: expected at least one name, and each once")
        return self


class ContainerData(DataSection):
    """Images inside other files: tar files (WebDataset), Parquet, and the Arrow files of Hugging Face's datasets.

    The root is such a file, a folder of them, or a pattern, such as shards-{000..009}.tar.
    """

    layout: Annotated[Literal["container"], Field(description="Images inside other files.")] = "container"
    label_column: Annotated[
        Text | None,
        Field(
            description="Where the label of an image stands: a column, or the field of a tar's JSON; by default what "
            "is called like one."
        ),
    ] = None
    image_column: Annotated[
        Text | None,
        Field(description="The column of the images, where several hold bytes; by default the one that holds images."),
    ] = None


class UnknownData(DataSection):
    """A layout that does not exist: only its name is refused, since its keys may belong to another layout."""

    model_config = ConfigDict(extra="ignore")


LAYOUTS: dict[str, type[DataSection]] = {
    "folder": FolderData, "drive-act": DriveActData, "table": TableData, "container": ContainerData,
}  # fmt: skip
UNKNOWN_LAYOUT = "unknown"


def _layout_of(data: object) -> str:
    layout = data.get("layout", "folder") if isinstance(data, Mapping) else getattr(data, "layout", "folder")
    return layout if isinstance(layout, str) and layout in LAYOUTS else UNKNOWN_LAYOUT


AnyData = Annotated[
    Annotated[FolderData, Tag("folder")]
    | Annotated[DriveActData, Tag("drive-act")]
    | Annotated[TableData, Tag("table")]
    | Annotated[ContainerData, Tag("container")]
    | Annotated[UnknownData, Tag(UNKNOWN_LAYOUT)],  # never passes: its layout is none of these
    Discriminator(_layout_of),
]
