"""What a run is: every setting of training and prediction, typed and bounded once, from TOML, flags and records."""

import argparse
import contextlib
import dataclasses
import difflib
import enum
import functools
import json
import math
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from digits.console import BadInput
from digits.files import SUBMISSIONS, kit_command
from digits.typed import read_as

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
NETWORKS = {"seed": 0.9, "compact": 6.4, "vgg": 13.3, "deotte": 15.2, "late48": 65.4, "late64": 116.1, "resnet": 44.0}
"""Million multiply-adds an image of each network in `model/networks.py`, which is not imported: it loads Keras."""
OPTIMIZERS = ("adam", "adamw", "sgd", "muon")
SCHEDULES = ("constant", "one-cycle", "exponential")
SOURCES = ("auto", "kaggle", "keras", "sample")
PRECISIONS = ("auto", "float32", "mixed_bfloat16")
CLASS_WEIGHTS = ("none", "balanced")
_CUSTOM_NETWORK = re.compile(r".+\.py:[A-Za-z_]\w*")
T = TypeVar("T")


class Metric(enum.StrEnum):
    """What a competition scores by."""

    ACCURACY = "accuracy"
    MACRO_F1 = "macro-f1"
    LOG_LOSS = "log-loss"
    AUC = "auc"

    @property
    def text(self) -> str:
        """Its name in a sentence."""
        return {Metric.MACRO_F1: "macro-F1", Metric.AUC: "AUC"}.get(self, self.value)

    @property
    def takes_probabilities(self) -> bool:
        """Whether it scores probabilities, and not labels."""
        return self in (Metric.LOG_LOSS, Metric.AUC)

    @property
    def sign(self) -> int:
        """1 where the higher value is the better, else −1."""
        return {Metric.LOG_LOSS: -1}.get(self, 1)


def _setting(
    default: T,
    meaning: str,
    low: float = 0,
    high: float = math.inf,
    choices: Sequence[str] = (),
    flag: str | None = None,
) -> T:
    """Declare a field with its meaning, and the range (both ends included) or the choices of its values.

    A recipe's field has a flag of its own beside --set where `flag`, the name of its value, is given.
    """
    metadata = {"meaning": meaning, "low": low, "high": high, "choices": choices, "flag": flag}
    return dataclasses.field(default=default, metadata=metadata)


def _flag(default: T, meaning: str, flag: str | None = None, low: int = 0, choices: Sequence[str] = ()) -> T:
    """Declare a field that is a flag of the command line, with the name, least and choices of its value."""
    return _setting(default, meaning, low, choices=choices, flag=flag)


@dataclass(frozen=True)
class Augmentation:
    """How far a training image is transformed, drawn uniformly to either side of 0."""

    rotation_degrees: float = _setting(0.0, "largest rotation of a training image", 0, 180)
    shift_pixels: float = _setting(0.0, "largest shift of a training image, in x and in y", 0, 14)
    zoom: float = _setting(0.0, "share by which width and height grow or shrink, each on its own", 0, 0.9)
    shear_degrees: float = _setting(0.0, "largest shear of a training image", 0, 60)
    keep_ink: bool = _setting(False, "stop shifts at the image's edge, so that no ink leaves it (Byerly et al. 2020)")
    mirror_edges: bool = _setting(False, "fill the space beyond the edges with the mirrored image; false: with 0")
    flip_left_right: bool = _setting(False, "mirror every other training image, left to right")
    flip_up_down: bool = _setting(False, "mirror every other training image, top to bottom")
    brightness: float = _setting(0.0, "largest change of brightness, as a share of the full range", 0, 0.9)
    contrast: float = _setting(0.0, "largest change of contrast, as a share", 0, 0.9)

    @property
    def any(self) -> bool:
        """Whether it changes anything."""
        return dataclasses.replace(self, keep_ink=False, mirror_edges=False) != Augmentation()

    @property
    def changes_tones(self) -> bool:
        """Whether it changes brightness or contrast."""
        return bool(self.brightness or self.contrast)


@dataclass(frozen=True)
class Tta:
    """Test-time augmentation: the augmented copies of an image whose probabilities are averaged."""

    shift_pixels: float = _setting(0.0, "also predict the image shifted so far left, right, up and down; 0: not", 0, 14)
    rotation_degrees: float = _setting(0.0, "also predict the image rotated so far either way; 0: not", 0, 180)
    flip_left_right: bool = _setting(False, "also predict each of those mirrored, left to right")
    flip_up_down: bool = _setting(False, "also predict each of those mirrored, top to bottom")
    weight: float = _setting(1.0, "weight of each of those copies; the image itself has 1", 0, 10)
    below: float = _setting(1.0, "only for images whose probability without copies is at most this; 1: for all", 0, 1)

    @property
    def any(self) -> bool:
        """Whether there is more than one copy."""
        return self.copies > 1

    @property
    def copies(self) -> int:
        """How many copies of an image are predicted, itself among them."""
        copies = 1
        if self.shift_pixels:
            copies += 4
        if self.rotation_degrees:
            copies += 2
        if self.flip_left_right:
            copies *= 2
        if self.flip_up_down:
            copies *= 2
        return copies


@dataclass(frozen=True)
class Recipe:
    """One way to train: the networks, how they are trained, and how they predict."""

    name: str
    networks: tuple[str, ...] = _setting(
        ("compact",),
        "networks to train in each fold (sets members, too); FILE.py:FUNCTION is your own",
        choices=tuple(NETWORKS),
        flag="NAME",
    )
    epochs: int = _setting(10, "times through the training images", 1, 10_000, flag="N")
    batch_size: int = _setting(128, "images a training step", 1, 65_536)
    optimizer: str = _setting("adamw", "optimizer; sgd is Nesterov's, with momentum 0.9", choices=OPTIMIZERS)
    learning_rate: float = _setting(4e-3, "maximum learning rate", 1e-8, 10)
    schedule: str = _setting("one-cycle", "course of the learning rate over the steps", choices=SCHEDULES)
    warm_up: float = _setting(0.2, "one-cycle: share of the steps in which the rate rises", 0.001, 0.999)
    decay: float = _setting(0.95, "exponential: factor on the learning rate after each epoch", 0.01, 1)
    weight_decay: float = _setting(0.0, "decoupled weight decay, times the learning rate at each step", 0, 1)
    label_smoothing: float = _setting(0.0, "share of each label spread evenly over all classes", 0, 0.99)
    class_weights: str = _setting(
        "none", "balanced: every class counts alike in the loss, however many images it has", choices=CLASS_WEIGHTS
    )
    dropout: float = _setting(1.0, "factor on the network's own dropout rates; 0: no dropout", 0, 1.6)
    augmentation: Augmentation = Augmentation()
    clean_epochs: int = _setting(0, "last epochs without augmentation (Matuzas 2020)", 0, 10_000)
    ema: float = _setting(0.0, "momentum of the weights' moving average, smaller at first; 0: none", 0, 0.99999)
    tta: Tta = Tta()
    precision: str = _setting("auto", "auto: mixed_bfloat16 where the hardware has it", choices=PRECISIONS)
    folds: int = _setting(
        5, "parts of the data, scored by networks trained on the others; 1: a 90/10 split", 1, 1_000, flag="K|FILE.csv"
    )
    members: int = _setting(1, "networks per fold, averaged", 1, 1_000, flag="M")
    refit: int = _setting(0, "networks trained on all images after the folds, and averaged in", 0, 1_000, flag="M")
    evaluate_every: int = _setting(0, "epochs between scores of some held-out images; 0: only at the end", 0, 10_000)
    base: str = "standard"  # The recipe of the kit that this one started from, and is compared with.
    sources: dict[str, str] = dataclasses.field(default_factory=dict, hash=False)  # Text of the user's files, by name.

    @property
    def network_count(self) -> int:
        """How many networks a run trains."""
        return self.folds * self.members + self.refit

    def changed(self, **settings) -> "Recipe":
        """Return this recipe with some fields replaced; None leaves a field as it is."""
        return dataclasses.replace(self, **{name: value for name, value in settings.items() if value is not None})


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a training command asks for besides its recipe; run.json records it."""

    seed: int = _flag(0, "Seed of weights, batch order and augmentation, not of folds", "S")
    fold_seed: int = _flag(0, "Seed of the split into folds alone", "S")  # Runs with other seeds share their folds.
    folds_file: str | None = None  # The CSV that gives the folds, where --folds names one.
    groups: str | None = _flag(
        None, "Column of train.csv, or CSV of ids and groups, each of which stays in one fold", "NAME|FILE.csv"
    )
    source: str = _flag("auto", "Training data; auto: the files in the data folder, else the sample", choices=SOURCES)
    competition: str | None = _flag(None, "Competition whose files and formats are used (docs/data.md)", "SLUG")
    id_column: str | None = _flag(None, "Column of train.csv with the images' ids or files", "NAME")
    label_column: str | None = _flag(None, "Column of train.csv with the labels", "NAME")
    metric: str | None = _flag(
        None, "Metric of the competition (default: what sample_submission.csv suggests)", choices=tuple(Metric)
    )
    limit: int | None = _flag(None, "Number of training images to use", "N", low=1)
    image_size: int | None = _flag(None, "Long side that images are resized to (default: their own)", "N", low=8)
    image_shape: tuple[int, int, int] | None = None  # That images are brought to: of a run that is used again.
    allow_leak: bool = _flag(False, "Allow test images among the training images: marked, never submitted")
    pseudo_labels: str | None = _flag(None, "Run (same folds) on whose confident test predictions to train", "RUN")
    extra: str | None = _flag(None, "Folder of custom images that join training; marked in the record", "FOLDER")
    deterministic: bool = _flag(False, "Give the same bytes from the same command on the same machine; slower")


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How a training command is executed, on which no probability depends."""

    run: str | None = _flag(None, "Name of the run; given alone, it resumes an unfinished one as it was", "NAME")
    from_run: str | None = _flag(None, "Run, or its run.json, to repeat with all its settings", "FILE")
    data_dir: Path | None = _flag(None, "Folder of train.csv and test.csv (default: data/)", "DIR")  # noqa: RUF009
    out: Path | None = _flag(None, "File for a copy of the submission (default: submissions/submission.csv)", "FILE")  # noqa: RUF009
    jobs: int | None = _flag(None, "Networks trained at a time (default: one per CPU core or GPU)", "J", low=1)
    cluster: str | None = _flag(None, "Dask scheduler whose workers train, such as tcp://HOST:PORT", "ADDRESS")
    minutes: int | None = _flag(None, "Time after which the run ends with the networks trained by then", "M", low=1)
    trust: bool = _flag(False, "Execute a run's own network file, if it is new on this machine")
    tensorboard: bool = _flag(False, "Also write the finished run for TensorBoard")
    report: bool = _flag(True, "Draw no figures and build no page")
    command: str = ""  # As it was typed, for the record.
    submissions: Path = SUBMISSIONS  # The folder of all runs.

    @property
    def resume_words(self) -> list[str]:
        """The flags that the command that resumes the run needs beside --run: the record does not have them."""
        words = []
        for option, field in flags_of(Execution).items():
            value = getattr(self, field.key)
            if value != field.default and field.key not in ("run", "data_dir"):
                words += [option] if field.type is bool else [option, str(value)]
        return words


@dataclass(frozen=True)
class Settings(Options):
    """One training command, whole."""

    recipe: Recipe


@dataclass(frozen=True)
class Field:
    """A field that a user sets: of a recipe by its dotted key, or of options by a flag."""

    key: str
    type: Any  # Of a value that is not None.
    default: Any
    meaning: str
    low: float
    high: float
    choices: Sequence[str]
    flag: str | None  # The name of its value on the command line.

    @property
    def option(self) -> str:
        """Its flag."""
        return ("--no-" if self.default is True else "--") + self.key.replace("_", "-")

    @property
    def expected(self) -> str:
        """What a value has to be, in words."""
        if self.type is bool:
            return "true or false"
        if self.choices:
            names = ", ".join(self.choices)
            return f"one of {names}" if self.type is str else f"a list of {names} or FILE.py:FUNCTION"
        number = "a whole number" if self.type is int else "a number"
        return f"{number} from {self.low:g} " + ("up" if math.isinf(self.high) else f"to {self.high:,.5g}")

    def parse(self, text: str) -> Any:
        """Return the value that a command line's text stands for, or the text where it stands for none."""
        if get_origin(self.type) is tuple:
            return [name.strip() for name in text.split(",")]
        if self.type is bool:
            return {"true": True, "false": False}.get(text.lower(), text)
        try:
            return self.type(text)
        except ValueError:
            return text

    def checked(self, value: Any, prefix: str) -> Any:
        """Return `value`, of TOML's or JSON's types, as the field's own type.

        Raises BadInput after `prefix`, for another type or out of range; a wrong name is answered with the nearest one.
        """
        hint = ""
        with contextlib.suppress(BadInput):
            typed = read_as(self.type, value, prefix)
            items = typed if isinstance(typed, tuple) else (typed,)
            refused = [item for item in items if not self._accepts(item)]
            if items and not refused:
                return typed
            hint = "".join(nearest(str(item), self.choices) for item in refused[:1])
        raise BadInput(f"{prefix}: expected {self.expected}.{hint}")

    def _accepts(self, item: Any) -> bool:
        if self.choices:
            is_custom = get_origin(self.type) is tuple and _CUSTOM_NETWORK.fullmatch(item) is not None
            return is_custom or item in self.choices
        return not isinstance(item, int | float) or self.low <= item <= self.high


def fields_of(kind: Any, prefix: str = "") -> Iterable[Field]:
    """Yield the fields of a dataclass that a user sets, those of the dataclasses in it among them."""
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(field.type):
            yield from fields_of(field.type, f"{prefix}{field.name}.")
        elif field.metadata:
            kinds = get_args(field.type)
            value_type = kinds[0] if type(None) in kinds else field.type
            yield Field(f"{prefix}{field.name}", value_type, field.default, **field.metadata)


@functools.cache
def fields() -> dict[str, Field]:
    """Return all fields of a recipe that a user sets, by their dotted keys."""
    return {field.key: field for field in fields_of(Recipe)}


def flags_of(kind: type) -> dict[str, Field]:
    """Return the fields of a dataclass that are flags: --data-dir, or --no-report for one that is true by default."""
    return {field.option: field for field in fields_of(kind) if kind is not Recipe or field.flag}


def add_flags(group: argparse._ArgumentGroup, kind: type) -> None:
    """Add the flags of a dataclass to a group of a parser; one that is not given is None there."""
    for option, field in flags_of(kind).items():
        how: dict[str, Any] = {"type": field.parse, "metavar": field.flag, "choices": field.choices or None}
        if field.type is bool:
            how = {"action": "store_const", "dest": field.key, "const": not field.default}
        elif get_origin(field.type) is tuple:
            how = {"nargs": "+", "metavar": field.flag}
        group.add_argument(option, help=f"{field.meaning[0].upper()}{field.meaning[1:]}", **how)


def read_flags(kind: type, values: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of a dataclass whose flags were given; BadInput, naming the flag, for another value."""
    given = {field: getattr(values, field.key) for field in flags_of(kind).values()}
    return {
        field.key: field.checked(value, f"{field.option} {' '.join(value) if isinstance(value, list) else value}")
        for field, value in given.items()
        if value is not None
    }


def nearest(word: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """Return " Did you mean …?" with the known word that is nearest, or nothing where none is near."""
    return "".join(f" Did you mean {near}?" for near in difflib.get_close_matches(word, list(known), 1, cutoff))


def flat(recipe: Recipe) -> dict[str, Any]:
    """Return the value of each of `fields`, by its dotted key, of JSON's and TOML's types."""
    values = {key: functools.reduce(getattr, key.split("."), recipe) for key in fields()}
    return values | {"networks": list(recipe.networks)}


def override(recipe: Recipe, values: Mapping[str, Any], folder: Path = Path()) -> Recipe:
    """Return `recipe` with the checked `values`, by dotted key, in place; new networks have a member each.

    Raises BadInput if the file in `folder` of a network of the user's own cannot be used.
    """
    if "networks" in values:
        networks, sources = _read_networks(values["networks"], folder)
        values = {"members": len(networks), **values, "networks": networks, "sources": sources}
    for key, value in values.items():
        group, _, name = key.rpartition(".")
        changed = {name: value}
        if group:
            changed = {group: dataclasses.replace(getattr(recipe, group), **changed)}
        recipe = dataclasses.replace(recipe, **changed)
    return recipe


def _read_networks(names: Sequence[str], folder: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the names, those of a user's own without their folders, and the text of each file by its name."""
    short, sources = list(names), dict[str, str]()
    for number, name in enumerate(names):
        path, colon, function = name.rpartition(":")
        if not colon:
            continue
        file = Path(path).name
        short[number] = f"{file}:{function}"
        try:
            source = (folder / path).read_text(encoding="utf-8-sig")
        except OSError as error:
            raise BadInput(f"The network {name}: {path} cannot be read ({error.strerror}).") from None
        except UnicodeError:
            raise BadInput(f"The network {name}: {path} is not a text file in UTF-8.") from None
        if sources.setdefault(file, source) != source:
            raise BadInput(f"The network {name}: two different files are called {file}; rename one.")
    return tuple(short), sources


def _field(key: str, where: str) -> Field:
    """Return a field; for an unknown key, raise BadInput with the nearest known one after `where`."""
    if key not in fields():
        raise BadInput(f"{where}: {key} is not a field of a recipe.{nearest(key, fields())}", fix=_list_fields())
    return fields()[key]


def _list_fields() -> str:
    return f"All fields: {kit_command('src/train.py', '--list-settings')}"


def _flattened(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flattened(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def recipe_names() -> list[str]:
    """Return the names of the kit's own recipes."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def load_recipe(name_or_path: str, folder: Path = Path(), above: tuple[Path, ...] = ()) -> Recipe:
    """Read one of the kit's recipes by its name, or a user's by the path of its TOML file in `folder`.

    The recipes in the files `above` are based on it. Raises BadInput if there is no such recipe, or the file says
    something that a recipe cannot.
    """
    file = name_or_path
    if not file.endswith(".toml"):
        folder, file, names = RECIPES, f"{name_or_path}.toml", recipe_names()
        if name_or_path not in names:
            near = nearest(name_or_path, names)
            expected = f"Expected {', '.join(names)}, or a file such as my.toml."
            raise BadInput(f"There is no recipe {name_or_path!r}.{near} {expected}")
    path = (folder / file).resolve()
    if path in above:
        raise BadInput(f"{name_or_path}: recipes that are based on each other: {', '.join(map(str, above))}.")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise BadInput(f"--recipe {name_or_path}: cannot be read ({error.strerror}).") from None
    except ValueError as error:
        raise BadInput(f"{name_or_path}: not a TOML file ({error}).") from None
    parent = values.pop("base", None)
    if not isinstance(parent, str | None):
        raise BadInput(f"{name_or_path}: base = {json.dumps(parent, default=str)}: expected a recipe's name or file.")
    base = Recipe(name="") if parent is None else load_recipe(parent, path.parent, (*above, path))
    checked = {}
    for key, value in _flattened(values):
        assignment = f"{key} = {json.dumps(value, default=str)}"
        checked[key] = _field(key, name_or_path).checked(value, f"{name_or_path}: {assignment}")
    recipe = dataclasses.replace(override(base, checked, path.parent), name=path.stem)
    return dataclasses.replace(recipe, base=path.stem) if path.parent == RECIPES else recipe


def set_values(recipe: Recipe, assignments: Sequence[str]) -> Recipe:
    """Return `recipe` with each KEY=VALUE of `--set` in place.

    Raises BadInput for an unknown key, with the nearest known one, or a value that its field does not take.
    """
    values = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise BadInput(f"--set {assignment}: expected KEY=VALUE", fix=_list_fields())
        field = _field(key, f"--set {assignment}")
        values[key] = field.checked(field.parse(text), f"--set {assignment}")
    return override(recipe, values)


def reference(recipe: Recipe) -> Recipe | None:
    """Return the kit's recipe of the same name, else the one that `recipe` started from; None if it is gone."""
    names = recipe_names()
    return next((load_recipe(name) for name in (recipe.name, recipe.base) if name in names), None)


def differences(recipe: Recipe, base: Recipe) -> dict[str, tuple[Any, Any]]:
    """Return the fields in which two recipes differ, by dotted key: the value in `base` and the one in `recipe`."""
    before, now = flat(base), flat(recipe)
    return {key: (before[key], now[key]) for key in now if before[key] != now[key]}


def describe_differences(recipe: Recipe) -> str:
    """Return in words how a recipe differs from the kit's own, such as "differs from quick in epochs = 3 (10)"."""
    changes, base = describe_changes(recipe), reference(recipe) or recipe
    return changes and f"differs from {base.name} in {changes}"


def describe_changes(recipe: Recipe) -> str:
    """Return what a recipe changes of the kit's own, such as "epochs = 3 (10)"; empty where that is gone."""
    changes = differences(recipe, reference(recipe) or recipe)
    return ", ".join(f"{key} = {_text(now)} ({_text(before)})" for key, (before, now) in changes.items())


def describe_settings(recipe: Recipe) -> str:
    """Return all fields as TOML: the values in `recipe`, and as comments what they mean and what they take."""
    lines = [f"{key} = {_text(value)}" for key, value in flat(recipe).items()]
    width = max(map(len, lines))
    comments = (f"# {field.meaning} ({field.expected})" for field in fields().values())
    return "\n".join(f"{line.ljust(width)}  {comment}" for line, comment in zip(lines, comments, strict=True))


def save_recipe(recipe: Recipe, path: Path, comment: str) -> None:
    """Write a recipe as a TOML file, a comment on top, that says what differs from the kit's recipe it started from.

    Raises BadInput for another name, one of the kit's recipes, or a file that is there; OSError if the file cannot be
    written.
    """
    if path.suffix != ".toml" or path.stem in recipe_names():
        taken = f"the kit has a recipe {path.stem}" if path.suffix == ".toml" else "expected a name such as my.toml"
        raise BadInput(f"--save-recipe {path}: {taken}.")
    if path.exists():
        raise BadInput(f"--save-recipe {path}: there is such a file already; delete it, or give another name.")
    base = reference(recipe)
    changes = {key: now for key, (_, now) in differences(recipe, base or Recipe(name="")).items()}
    if "networks" in changes or "members" in changes:
        changes |= {"networks": list(recipe.networks), "members": recipe.members}
    lines = [f"# {comment}", "", *([f'base = "{base.name}"'] if base else [])]
    lines += [f"{key} = {_text(value)}" for key, value in changes.items()]
    for file, source in recipe.sources.items():
        copy = path.with_name(file)
        if not copy.exists():
            copy.write_text(source, encoding="utf-8")
        elif copy.read_text(encoding="utf-8") != source:
            raise BadInput(f"--save-recipe {path}: {copy} is another version of the recipe's network file; move it.")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _text(value: Any) -> str:
    """Return a field's value as TOML writes it, which for these types is as JSON does."""
    whole = isinstance(value, float) and value.is_integer()
    return json.dumps(int(value) if whole else value, ensure_ascii=False)
