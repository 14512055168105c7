"""The competitions that are known, and the submission file."""

import enum
import re
from dataclasses import dataclass
from pathlib import Path

from digits.config import Metric, nearest
from digits.console import BadInput
from digits.files import DATA, kit_command


class Form(enum.StrEnum):
    """How a file of data relates to the one that Kaggle serves."""

    IDENTICAL = "identical"
    PUBLISHED = "published"  # What a package or Keras publishes, which is no competition's.
    SAME_CONTENT = "same content"  # The same pixels and labels, written otherwise.
    DIFFERENT = "different"
    UNVERIFIED = "unverified"  # As many rows as Kaggle's file or more, of which no hash is known.
    PARTIAL = "partial"  # Fewer rows than Kaggle's file has, of which no hash is known.
    OWN = "own"  # Not a competition's file.

    @classmethod
    def _missing_(cls, value: object) -> "Form | None":
        """Read what earlier versions recorded."""
        earlier = {
            "exact": cls.IDENTICAL,
            "same data": cls.SAME_CONTENT,
            "different data": cls.DIFFERENT,
            "not verified": cls.UNVERIFIED,
            "own data": cls.OWN,
        }
        return cls.PARTIAL if str(value).endswith(" rows") else earlier.get(str(value))

    @property
    def may_be_kaggles(self) -> bool:
        """Whether nothing speaks against its being Kaggle's file."""
        return self in (Form.IDENTICAL, Form.SAME_CONTENT, Form.UNVERIFIED)


@dataclass(frozen=True)
class KnownFile:
    """One of a competition's files; where known, the sha256 of its bytes, and of its pixels and labels alone."""

    rows: int
    sha256: str | None = None
    content: str | None = None

    def form(self, sha256: str, content: str, rows: int) -> Form:
        """Return how a file of this name relates to Kaggle's, by its hashes where they are known, else by its rows."""
        if self.sha256 is None:
            return Form.UNVERIFIED if rows >= self.rows else Form.PARTIAL  # A notebook's hidden test set may be larger.
        if sha256 == self.sha256:
            return Form.IDENTICAL
        return Form.SAME_CONTENT if content == self.content else Form.DIFFERENT


@dataclass(frozen=True)
class Competition:
    """A Kaggle competition of labelled images; digit-recognizer's names are short.

    Of one that is not in `COMPETITIONS` only the slug is known: its files say the rest.
    """

    slug: str
    classes: tuple[str, ...] = ()
    train: KnownFile | None = None
    test: KnownFile | None = None
    sample_submission: KnownFile | None = None
    header: tuple[str, str] = ("id", "label")  # Of a submission: the columns of id and label.
    first_id: int = 1
    metric: Metric | None = None  # None: what sample_submission.csv suggests.
    notebooks_only: bool = False
    """Whether it takes the output of a notebook instead of a file (a code competition)."""
    training_counts: tuple[int, ...] | None = None  # How often each class is in train.csv, where known.

    @property
    def is_known(self) -> bool:
        """Whether its files and the form of its submissions are known."""
        return bool(self.files)

    @property
    def test_rows(self) -> int | None:
        """How many test images it has; None where that is not known."""
        return self.test.rows if self.test else None

    @property
    def suggestion(self) -> str:
        """The competition that may be meant where this one is not known and has no data, in words."""
        others = {*COMPETITIONS, *(path.name for path in DATA.glob("*/"))}
        return "" if self.is_known or self.data_dir.exists() else nearest(self.slug, others, 0.8)

    @property
    def _short(self) -> str:
        return "" if self.slug == DIGIT_RECOGNIZER.slug else self.slug

    @property
    def data_dir(self) -> Path:
        """The default folder of its files."""
        return DATA / self._short

    @property
    def archive(self) -> str:
        """The name of the zip that Kaggle serves."""
        return f"{self.slug}.zip"

    @property
    def submission(self) -> str:
        """The name of the newest submission's copy in submissions/."""
        return f"{self._short or 'submission'}.csv"

    @property
    def ledger(self) -> str:
        """The name of the ledger in submissions/."""
        return f"ledger-{self._short}.csv" if self._short else "ledger.csv"

    @property
    def flag(self) -> str:
        """What the commands of another than the default need: " --competition SLUG"."""
        return f" --competition {self.slug}" if self._short else ""

    @property
    def training_commands(self) -> str:
        """The commands that fetch its data and train on them."""
        train = kit_command("src/train.py", "--source", "kaggle")
        return f"{kit_command('scripts/download.sh')}{self.flag} && {train}{self.flag}"

    @property
    def files(self) -> dict[str, KnownFile]:
        """The competition's files by their names; empty where they are not known."""
        files = {"train": self.train, "test": self.test, "sample_submission": self.sample_submission}
        return {f"{name}.csv": file for name, file in files.items() if file}


DIGIT_RECOGNIZER = Competition(
    slug="digit-recognizer",
    classes=tuple("0123456789"),
    train=KnownFile(
        rows=42_000,
        sha256="b35cc952c291f03d995f48721373e69454f689e299d724bd9a5927bdabddfeed",
        content="12f9af61ff8b54fe30ac9d2949cd42ed10a12497c14b1ffc0749bfacafb26216",
    ),
    test=KnownFile(
        rows=28_000,
        sha256="3353d136e718a01b18f4e2097d2f0bbd2676e5887b75b9497e35d34e90820013",
        content="c8eadeb442ebf0f9eb1d8705b05388c5f74ed5a5bfaf8ef58e648ecdcf17772b",
    ),
    sample_submission=KnownFile(
        rows=28_000,
        sha256="6ebaa8f99662433c2ad4fee65c76d8eb12ad627c3d2de1901704712e31bc0d9a",
        content="6daff192c59c8f460d1877b4492c4d1ded191d1a4e00d462f4a05f400ff7d60f",
    ),
    header=("ImageId", "Label"),
    first_id=1,
    metric=Metric.ACCURACY,
    training_counts=(4132, 4684, 4177, 4351, 4072, 3795, 4137, 4401, 4063, 4188),
)
KANNADA_MNIST = Competition(
    slug="kannada-mnist",
    classes=tuple("0123456789"),
    train=KnownFile(rows=60_000),
    test=KnownFile(rows=5_000),
    sample_submission=KnownFile(rows=5_000),
    header=("id", "label"),
    first_id=0,
    metric=Metric.ACCURACY,
    notebooks_only=True,
)
COMPETITIONS = {competition.slug: competition for competition in (DIGIT_RECOGNIZER, KANNADA_MNIST)}
SIDE = 28
"""Of the images that networks get, in pixels: others are resized."""
ROWS = 28_000
"""Test images of digit-recognizer."""


def find_competition(slug: str) -> Competition:
    """Return a competition by its slug or its address on Kaggle, with its files where it is a known one.

    Raises BadInput for what is neither.
    """
    match = re.fullmatch(r"(?:.*kaggle\.com/(?:competitions|c)/)?(\w[\w-]*)(?:[/?#].*)?", slug)
    if match is None:
        expected = f"the last part of its address on Kaggle, such as {DIGIT_RECOGNIZER.slug}"
        raise BadInput(f"expected {expected}", at=f"--competition {slug}")
    return COMPETITIONS.get(match[1]) or Competition(match[1])
