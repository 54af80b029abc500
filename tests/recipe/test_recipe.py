"""A recipe is data: read, checked whole, and every problem named at once."""

import os
import string
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.errors import UsageError
from featcache.recipe import check_recipe, read_recipe, resolve_recipe, shipped_recipes

SMALLEST = 'name = "ants"\n[data]\nroot = "data/ants"\n'


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "some.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(folder: Path, text: str | bytes) -> str:
    with pytest.raises(UsageError) as caught:
        read_recipe(written(folder, text))
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_a_recipe_needs_a_name_and_a_root_and_no_more(tmp_path):
    """What a recipe leaves out is the ViT paper's recipe on torchvision's vit_b_16."""
    found = read_recipe(written(tmp_path, SMALLEST))
    assert (found.trunk.arch, found.trunk.weights, found.trunk.precision) == ("vit_b_16", "IMAGENET1K_V1", "auto")
    head = found.head
    assert (head.lr, head.momentum, head.weight_decay, head.clip_norm) == ((0.003,), 0.9, (0.0,), 1.0)
    assert (head.batch_size, head.epochs, head.optimizer, head.schedule) == (1024, 90, ("sgd",), "cosine")


@pytest.mark.parametrize("name", ["daa", "digits"])
def test_the_shipped_recipes_are_sound(here, name):
    """A recipe that ships is found by its name from any folder, and bears that name."""
    assert resolve_recipe(name).name == name


def test_daa_is_the_baselines_recipe(here):
    """The recipe of the Drive&Act baseline: 22,860 steps for 259,865 images."""
    head = resolve_recipe("daa").head
    assert (head.lr, head.momentum, head.clip_norm, head.weight_decay) == ((0.003,), 0.9, 1.0, (0.0,))
    assert head.epochs * -(-259_865 // head.batch_size) == 22_860


def test_every_problem_is_named_at_once(tmp_path):
    """Five mistakes in one recipe are five lines in one error, each with its place and what was found."""
    text = 'name = "../up"\n[data]\nroot = 3\nlayout = "zip"\n[trunk]\nweight = "x"\n[head]\nlr = [0.1, "fast"]\n'
    message = refused(tmp_path, text)
    assert "some.toml: 5 problems" in message
    for line in (
        "name: found '../up'",
        "data.root: found 3",
        "data.layout: found 'zip'",
        "trunk.weight: unknown key; did you mean weights?",
        "head.lr.1: found 'fast'",
    ):
        assert f"\n  {line}" in message


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ("head", "lr = 0.0"),
        ("head", "lr = -1"),
        ("head", "lr = nan"),
        ("head", "lr = inf"),
        ("head", "lr = []"),
        ("head", "lr = true"),
        ("head", 'lr = "0.1"'),
        ("head", "momentum = 1.0"),
        ("head", "momentum = -0.1"),
        ("head", "weight_decay = -1e-9"),
        ("head", "weight_decay = inf"),
        ("head", "clip_norm = 0"),
        ("head", "batch_size = 0"),
        ("head", "batch_size = 2.0"),
        ("head", "epochs = 0"),
        ("head", "epochs = true"),
        ("head", "seed = -1"),
        ("head", "seed = 9223372036854775808"),
        ("head", 'optimizer = "adagrad"'),
        ("head", 'schedule = "step"'),
        ("trunk", 'precision = "fp16"'),
        ("trunk", 'stored = "bfloat16"'),
        ("trunk", 'exif = "maybe"'),
        ("trunk", 'weights = ""'),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_name(tmp_path, section, line):
    """A value that cannot be trained with is refused when it is read, under its own name."""
    message = refused(tmp_path, f"{SMALLEST}[{section}]\n{line}\n")
    assert "1 problem\n" in message
    assert f"{section}.{line.partition(' ')[0]}" in message


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "a b", "-x", "a\\n", "x" * 101, "ä"])
def test_a_name_that_could_leave_its_folder_is_refused(tmp_path, name):
    """A data set's name becomes a folder: no separator, no leading dot, no line break, at most 100 characters."""
    assert "name: found" in refused(tmp_path, f'name = "{name}"\n[data]\nroot = "x"\n')


@pytest.mark.parametrize(
    "text",
    [
        b"\xff\xfe",
        b'name = "K\xe4fer"',
        "name = ",
        "[data",
        "a = 1\na = 2",
        "a = " + "[" * 5000,
        "a = " + "1" * 5000,
        "a = 1979-13-01",
        b"a = \x00",
    ],
    ids=["bytes", "latin-1", "half", "open", "twice", "brackets", "digits", "date", "nul"],
)
def test_what_is_no_toml_is_one_clear_refusal(tmp_path, text):
    """Whatever stands in the file, the answer is one error that names the file, never a traceback."""
    expected = "TOML in UTF-8" if text in (b"\xff\xfe", b'name = "K\xe4fer"') else "valid TOML"
    assert f"some.toml: this is not {expected}: " in refused(tmp_path, text)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf", b"\xef\xbb\xbf\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_a_byte_order_mark_and_any_line_end_are_read(tmp_path, mark, end):
    """A recipe that an editor saved with a mark, twice even, or with other line ends, is the same recipe."""
    path = tmp_path / "some.toml"
    path.write_bytes(mark + b'name = "d"' + end + b"[data]" + end + b'root = "x\xc3\xa4"' + end)
    found = resolve_recipe(str(path))
    assert (found.name, found.data.root) == ("d", "x\u00e4")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            'name = "d"'.encode("utf-16"),
            "it is in UTF-16; save it in UTF-8, for example with `iconv -f utf-16 ",
        ),
        (
            'name = "d"'.encode("utf-32"),
            "it is in UTF-32; save it in UTF-8, for example with `iconv -f utf-32 ",
        ),
        (
            b'name = "d"\n# K\xe4fer',
            "line 2 is not UTF-8; save it in UTF-8, for example with `iconv -f latin1",
        ),
    ],
    ids=["utf-16", "utf-32", "latin-1"],
)
def test_a_recipe_in_another_encoding_says_which(tmp_path, data, said):
    """What is not UTF-8 is told with its encoding or its line, and the way out."""
    assert said in refused(tmp_path, data)


@pytest.mark.parametrize("text", ["", "x = 1", 'name = "a"', "[data]\nroot = 'x'", "name = 'a'\ndata = 3"])
def test_a_recipe_that_lacks_what_it_must_say_is_refused(tmp_path, text):
    """Valid TOML that is no recipe is refused with what is missing."""
    assert "missing" in refused(tmp_path, text) or "data: found 3" in refused(tmp_path, text)


@given(st.text(alphabet=string.printable, max_size=60) | st.binary(max_size=40).map(lambda b: b.decode("latin-1")))
def test_random_text_is_read_or_refused(tmp_path_factory, text):
    """Reading never ends in anything but a recipe or a UsageError."""
    path = tmp_path_factory.getbasetemp() / "random.toml"
    path.write_bytes(text.encode())
    try:
        tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        with pytest.raises(UsageError):
            read_recipe(path)
    else:
        with pytest.raises(UsageError, match=r"missing|unknown|found"):
            read_recipe(path)


@pytest.mark.parametrize("what", ["nowhere.toml", "a/folder"])
def test_a_recipe_that_cannot_be_read_says_why(here, what):
    """A missing recipe, or a folder in its place, is named with the system's reason."""
    (here / "a/folder").mkdir(parents=True)
    with pytest.raises(UsageError, match=f"{what}: the recipe cannot be read: "):
        resolve_recipe(what)


def test_an_unknown_name_lists_the_known_ones(here):
    """A pipeline that exists nowhere is refused with the names that do exist."""
    (here / "pipelines").mkdir()
    (here / "pipelines/mine.toml").write_text(SMALLEST)
    names = ", ".join(sorted(["mine", *(path.stem for path in shipped_recipes().glob("*.toml"))]))
    with pytest.raises(UsageError, match=rf"no recipe 'yours'.*\({names}\)"):
        resolve_recipe("yours")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("numbr.toml", "numbers.toml"), ("numbers", "numbers.toml"), ("./numbr.toml", "numbers.toml"), ("dda", "daa")],
)
def test_a_misspelt_recipe_is_answered_with_the_nearest(here, typed, meant):
    """A file beside it, or a name that ships; the command that is advised has it."""
    (here / "numbers.toml").write_text(SMALLEST)
    with pytest.raises(UsageError, match=f"did you mean {meant}") as caught:
        resolve_recipe(typed)
    assert [(correction.wrong, correction.right) for correction in caught.value.corrections] == [("--pipeline", meant)]


def test_ones_own_pipelines_come_before_those_that_ship(here):
    """./pipelines/daa.toml wins over the daa that ships."""
    (here / "pipelines").mkdir()
    (here / "pipelines/daa.toml").write_text(SMALLEST)
    assert resolve_recipe("daa").name == "ants"


def test_without_a_pipeline_the_folder_then_the_data_then_daa_decide(here):
    """No pipeline: ./featcache.toml where it stands; else the folder that is named; else daa."""
    assert resolve_recipe().name == "daa"
    assert resolve_recipe(data="somewhere/.My Bees").name == "My-Bees"
    assert resolve_recipe(data="/").name == "data"
    (here / "featcache.toml").write_text(SMALLEST)
    assert resolve_recipe().name == "ants"


def test_a_table_named_beside_a_recipe_of_a_table_takes_the_place_of_both_its_settings(here):
    """A table is named as a folder is, whether it is there or not; a folder is where the recipe's own table lies."""
    (here / "featcache.toml").write_text('name = "a"\n[data]\nlayout = "table"\nroot = "old"\ntable = "a.csv"\n')
    (here / "some").mkdir()
    (here / "b.csv").write_text("path,label\n")
    for typed, place in {"b.csv": (".", "b.csv"), "some/c.csv": ("some", "c.csv"), "some": ("some", "a.csv")}.items():
        data = resolve_recipe(data=typed).data
        assert (data.root, data.table) == place


def test_a_flag_wins_over_the_recipe(here):
    """--data and --name replace the recipe's root and name, and keep the rest."""
    (here / "featcache.toml").write_text(SMALLEST + "[head]\nepochs = 7\n")
    found = resolve_recipe(data="other", name="bees")
    assert (found.name, found.data.root, found.head.epochs) == ("bees", "other", 7)


@given(st.text(max_size=30).filter(lambda text: "\0" not in text))
def test_any_folder_makes_a_usable_name(text):
    """Whatever a folder is called, naming it with --data makes a recipe with a permitted name."""
    assert resolve_recipe(data=f"/{text.strip('/') or 'x'}").data.root.startswith("/")


def test_override_checks_what_it_puts_in():
    """A flag is checked like the file itself, and None leaves the recipe's word."""
    found = check_recipe({"name": "a", "data": {"root": "x"}}, where="test")
    assert found.override("head", lr=[0.1, 0.2], epochs=None).head.lr == (0.1, 0.2)
    assert found.override("head", lr=0.5).head.lr == (0.5,)
    assert found.override("trunk") == found
    with pytest.raises(UsageError, match="--epochs: found 0, expected a whole number from 1 to 10,000"):
        found.override("head", epochs=0)


def test_a_pipe_in_the_place_of_a_recipe_is_refused(tmp_path):
    """Exit class 2 at once; nothing waits for what nobody writes."""
    os.mkfifo(tmp_path / "pipe.toml")
    with pytest.raises(UsageError, match="not a regular file"):
        read_recipe(tmp_path / "pipe.toml")


def test_the_plural_of_a_key_is_meant_before_what_begins_like_it(tmp_path):
    """A table's setting target is its targets, and not its target_columns."""
    text = 'name = "a"\n[data]\nlayout = "table"\nroot = "."\ntable = "a.csv"\ntarget = "value"\n'
    assert "data.target: unknown key; did you mean targets?" in refused(tmp_path, text)
