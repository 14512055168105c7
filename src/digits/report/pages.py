"""Pages that need nothing but themselves: the templates beside this file, filled in and written whole."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np

from digits.data.dataset import Digits
from digits.paths import written_whole
from digits.report.pictures import data_uri


@dataclass(frozen=True)
class Card:
    """One digit in a gallery."""

    picture: str
    """A data URI."""
    given: int | None
    said: int
    sure: float
    """Of `said`, 0-1."""
    place: str
    """Which row of which file it is."""
    bars: list[tuple[int, float]]
    """Each digit and its probability in percent."""
    note: str = ""

    @property
    def in_words(self) -> str:
        """The bars for those who cannot see them."""
        likely = sorted(self.bars, key=lambda bar: -bar[1])[:3]
        return "Probabilities: " + ", ".join(f"{digit}: {share:.0f} %" for digit, share in likely if share >= 0.5)


def cards(
    digits: Digits, rows: Iterable[int], probabilities: np.ndarray, file: str, notes: Iterable[str] | None = None
) -> list[Card]:
    """Return the cards of rows of `digits`, with each row's probabilities float32 (k, 10).

    Args:
        digits: where the images are.
        rows: their numbers (k,), from 0.
        probabilities: what was said of them, row by row.
        file: what to call the place they come from.
        notes: a line for each.
    """
    rows = list(rows)
    notes = [""] * len(rows) if notes is None else list(notes)
    made = []
    for row, said, note in zip(rows, probabilities, notes, strict=True):
        answer = int(said.argmax())
        given = None if digits.labels is None else int(digits.labels[row])
        bars = [(digit, 100 * float(share)) for digit, share in enumerate(said)]
        place = f"{file} {digits.ids[row]:,}"
        made.append(Card(data_uri(digits.images[row]), given, answer, float(said[answer]), place, bars, note))
    return made


def percent(value: float, decimals: int = 2) -> str:
    """Return 0.99644 as "99.64 %", and never 100 % for what is less."""
    text = f"{100 * value:.{decimals}f}"
    return f"{text if value >= 1 or float(text) < 100 else '>' + str(100 - 10**-decimals)} %"


def write_page(template: str, path: Path, **values: object) -> Path:
    """Fill a template in and write it to `path`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    environment.filters["thousands"] = lambda number: f"{number:,}"
    text = environment.get_template(template).render(**values)
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path
