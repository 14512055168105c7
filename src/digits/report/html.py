"""The pages: the report of a run, and the comparison of two."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
from markupsafe import Markup

from digits.config import describe_differences
from digits.console import BadInput, KitError
from digits.data.competition import ROWS
from digits.data.dataset import Dataset, Split
from digits.files import REFERENCE, atomic_write
from digits.kaggle.ledger import Entry, read_ledger
from digits.model.augment import data_uri, png_uri
from digits.report import analysis, charts
from digits.report.analysis import RunData
from digits.report.charts import svg
from digits.runs import metrics
from digits.runs.record import FinishedRecord
from digits.runs.store import Run, all_runs


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
    digits: Split, rows: Iterable[int], probabilities: np.ndarray, file: str, notes: Iterable[str] | None = None
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


def render(template: str, **values: object) -> str:
    """Fill a template in."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    environment.filters["thousands"] = lambda number: f"{number:,}"
    return environment.get_template(template).render(**values)


def write_page(template: str, path: Path, **values: object) -> Path:
    """Fill a template in and write it to `path`."""
    text = render(template, **values)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


REPORT = "report.html"
MOST_MISTAKES, MOST_SUSPECTS, MOST_RUNS = 240, 60, 8


def build_report(
    run: Run, source: Dataset | None = None, data_dir: Path | None = None, reference: Path = REFERENCE
) -> Path:
    """Write report.html into a finished run's folder and return where it is.

    Args:
        run: its folder's neighbours are the runs, and the ledger, that it is compared with.
        source: its digits, if they are at hand; else they are loaded as the run's settings say, and where they are
            gone the page says so and does without.
        data_dir: where the competition's files are now, if not where they were.
        reference: the folder of the committed runs.

    Raises:
        BadInput: if the run is not finished.
    """
    evidence = analysis.gather(run, source, data_dir)
    record = evidence.record
    voices, compared_on = analysis.members(evidence)
    return write_page(
        "report.html.jinja",
        run.folder / REPORT,
        record=record,
        kind="Out-of-fold" if len({part.fold for part in evidence.parts}) != 1 else "Held-out",
        failed=record.failed_checks,
        passed=[check for check in record.checks if check.passed],
        missing=evidence.missing,
        rows=ROWS,
        voices=voices,
        tta=_tta(record),
        compared_on=compared_on,
        curves=_curves(evidence),
        shares=_shares(record),
        augmentation=_augmentation(run),
        agreements=_agreements(evidence, reference),
        ledger=_ledger(run),
        provenance=_provenance(record),
        differences=describe_differences(record.recipe) if record.recipe else "",
        **(_digits(evidence) if evidence.train_digits is not None else {"confusion": None}),
    )


def _svg(draw, *arguments, name: str, **options) -> Markup:
    return Markup(svg(draw, *arguments, name=name, **options))


def _curves(evidence: RunData) -> list[tuple[str, Markup]]:
    if not evidence.parts:
        return []
    ends = [fold.accuracy for fold in evidence.record.folds]
    return [
        ("Wrong digits by epoch", _svg(charts.draw_errors, evidence.parts, ends, name="errors")),
        ("Training loss by epoch", _svg(charts.draw_losses, evidence.parts, name="losses")),
    ]


def _tta(record: FinishedRecord) -> dict:
    """How many held-out digits the networks had wrong with and without test-time augmentation, where it was used."""
    folds = [fold for fold in record.folds if fold.wrong_without_tta is not None]
    if not folds:
        return {}
    return {"without": sum(fold.wrong_without_tta or 0 for fold in folds), "with": sum(fold.wrong for fold in folds)}


def _shares(record: FinishedRecord) -> Markup:
    counts = record.data.class_counts, record.test.class_counts
    return _svg(charts.draw_class_shares, *counts, name="shares", size=(5.2, 3.5))


def _augmentation(run: Run) -> str:
    file = run.folder / "augmentation.png"
    return png_uri(file.read_bytes()) if file.exists() else ""


def _digits(evidence: RunData) -> dict:
    """What can be said only with the labels and the images."""
    probabilities, labels, scored = evidence.probabilities, evidence.labels, evidence.scored
    wrong = analysis.mistakes(probabilities, labels)
    suspects = analysis.suspicious_labels(probabilities, labels)
    bins, error = analysis.calibration(probabilities, labels)
    counts = analysis.confusion(probabilities, labels)
    file = f"{'train.csv' if evidence.record.source == 'kaggle' else 'training'} image"

    def gallery(places: np.ndarray) -> list[Card]:
        return cards(evidence.train_digits, scored[places], probabilities[places], file)

    return {
        "confusion": counts.tolist(),
        "most_confused": int((counts - np.diag(np.diag(counts))).max()),
        "mistakes": gallery(wrong[:MOST_MISTAKES]),
        "mistakes_in_all": len(wrong),
        "suspects": gallery(suspects[:MOST_SUSPECTS]),
        "suspects_in_all": len(suspects),
        "calibration": _svg(charts.draw_calibration, bins, name="calibration", size=(5.2, 3.5)),
        "calibration_error": error,
        "surer": sum(part.rows * (part.confidence - part.right) for part in bins) > 0,
    }


def _agreements(evidence: RunData, reference: Path) -> list[analysis.Agreement]:
    others = [other for other in reversed(all_runs(evidence.run.folder.parent)) if other.name != evidence.run.name]
    found = [analysis.agreement(evidence, other) for other in others[: 4 * MOST_RUNS]]
    kept = sorted(reference.glob("*/run.json")) if reference.is_dir() else []
    references = [analysis.agreement(evidence, Run(file.parent)) for file in kept]
    return [one for one in references if one] + [one for one in found if one][:MOST_RUNS]


def _ledger(run: Run) -> dict:
    """The ledger's scored rows, this run's among them, and their figure."""
    try:
        entries = read_ledger(run.folder.parent / "ledger.csv")
    except KitError as error:
        return {"entries": [], "figure": "", "fault": str(error)}
    scored = [entry for entry in entries if entry.public_score is not None]
    drawn: list[Entry] = [entry for entry in scored if entry.out_of_fold is not None]
    figure = _svg(charts.draw_public_scores, drawn, run.name, name="public", size=(4.8, 4.2)) if drawn else ""
    return {"entries": [entry for entry in scored if entry.run == run.name], "figure": figure, "fault": ""}


def _provenance(record: FinishedRecord) -> list[tuple[str, str]]:
    """Where the run came from, as pairs of a name and a text."""
    recipe = dataclasses.asdict(record.recipe) if record.recipe else {}
    recipe = {
        name: value
        for name, value in recipe.items()
        if name not in ("name", "sources") and value not in (0, None, False)
    }
    files = record.data.files
    machine = vars(record.machine) if record.machine else {}
    told = {
        "command": record.command,
        "recipe": f"{record.recipe_name}: {_plain(recipe)}" if recipe else record.recipe_name,
        "settings": _plain(vars(record.settings)),
        "began": record.created,
        "took": f"{record.seconds:,.0f} s" + _memory(record.peak_memory_bytes),
        "machine": ", ".join(str(value) for value in machine.values() if value is not None),
        "backend": f"{record.backend or ''} {record.identity.get('precision', '')}".strip(),
        "versions": ", ".join(f"{name} {version}" for name, version in record.versions.items()),
        "commit": record.git or "",
        "data": "; ".join(f"{file.name}: {file.rows:,} rows, {file.form}" for file in files),
        "sha256 of the data": "; ".join(f"{file.name} {file.sha256}" for file in files),
        "sha256 of the answers": record.submission.sha256,
    }
    return [(name, value) for name, value in told.items() if value]


def _memory(peak: int | None) -> str:
    return f", {peak / 1e9:.2f} GB at most in one process" if peak else ""


def _plain(values: dict) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {_value(value)}" for name, value in values.items() if value is not None)


def _value(value: object) -> str:
    if isinstance(value, dict):
        return f"({_plain({name: inner for name, inner in value.items() if inner})})"
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


MOST_CARDS = 120


@dataclass(frozen=True)
class Compared:
    """What two runs say of the same digits."""

    first: RunData
    second: RunData
    rows: np.ndarray
    """The numbers int (m,) of the training rows that both held out; none where the runs share no data."""
    verdict: metrics.Comparison | None
    changed: np.ndarray | None
    """The numbers int (k,) of the test rows with other answers; None where the test images are not the same."""

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        if self.verdict is None:
            return "They share no held-out digits, so it cannot be tested which is better."
        verdict = self.verdict
        names = self.first.run.name, self.second.run.name
        better = names[0] if verdict.only_first_right >= verdict.only_second_right else names[1]
        counts = (
            f"Of {verdict.rows:,} digits that both held out, {verdict.only_first_right:,} only {names[0]} has right, "
            f"{verdict.only_second_right:,} only {names[1]}, and {verdict.both_wrong:,} neither."
        )
        if verdict.p_value < 0.05:
            return f"{counts} {better} is better: chance gives that much in {_chance(verdict.p_value)} (McNemar)."
        return (
            f"{counts} That is no difference to rely on: chance gives as much in {_chance(verdict.p_value)} (McNemar)."
        )

    @property
    def answers(self) -> str:
        """What became of the submission, in words, and whether it means anything."""
        leaked = [one.run.name for one in (self.first, self.second) if one.record.leaked]
        if leaked:
            return f"LEAKED: {' and '.join(leaked)} trained on test images, so their answers prove nothing."
        if self.changed is None:
            return "They predict different test images."
        return f"Their submissions differ in {len(self.changed):,} of {len(self.first.test):,} rows."


def _chance(p_value: float) -> str:
    return f"{p_value:.0%} of cases" if p_value >= 0.01 else f"less than {max(p_value, 1e-6):.1g} of cases"


def compare(first: Run, second: Run, data_dir: Path | None = None) -> Compared:
    """Compare two finished runs on the rows that both held out, and on the test images.

    Raises:
        BadInput: if a run is not finished, or they have neither training nor test images in common.
    """
    runs = [analysis.gather(run, data_dir=data_dir) for run in (first, second)]
    changed = None
    if analysis.test_images_of(runs[0].record) == analysis.test_images_of(runs[1].record):
        changed = np.flatnonzero(runs[0].test.argmax(axis=1) != runs[1].test.argmax(axis=1))
    rows, verdict = np.array([], int), None
    if runs[0].record.identity["data"] == runs[1].record.identity["data"] and runs[0].train_digits is not None:
        rows = np.intersect1d(runs[0].scored, runs[1].scored)
    if len(rows):
        answers = [run.out_of_fold[rows].argmax(axis=1) for run in runs]
        verdict = metrics.mcnemar(*answers, runs[0].train_digits.labels[rows])
    if verdict is None and changed is None:
        raise BadInput(
            f"Runs {first.name} and {second.name} have nothing in common to compare. {runs[0].missing}".rstrip()
        )
    return Compared(*runs, rows, verdict, changed)


def build_comparison(compared: Compared) -> Path:
    """Write the page about two runs into the first one's folder and return where it is."""
    first, second = compared.first, compared.second
    only_first, only_second, changed = _galleries(compared)
    return write_page(
        "comparison.html.jinja",
        first.run.folder / f"against-{second.run.name}.html",
        compared=compared,
        runs=(first, second),
        galleries=[
            (f"Only {first.run.name} has these right", *only_first),
            (f"Only {second.run.name} has these right", *only_second),
            ("Test digits with another answer", *changed),
        ],
        missing=first.missing,
    )


def _galleries(compared: Compared) -> list[tuple[int, list[Card]]]:
    """For each gallery the number of digits, and the cards of the first of them."""
    first, second = compared.first, compared.second
    made = []
    rows = compared.rows
    if compared.verdict is not None:
        labels = first.train_digits.labels[rows]
        right = [run.out_of_fold[rows].argmax(axis=1) == labels for run in (first, second)]
        groups = [rows[right[0] & ~right[1]], rows[~right[0] & right[1]]]
        made += [_gallery(compared, group, test=False) for group in groups]
    else:
        made += [(0, []), (0, [])]
    test = compared.changed is not None and first.test_digits is not None
    return [*made, _gallery(compared, compared.changed, test=True) if test else (0, [])]


def _gallery(compared: Compared, rows: np.ndarray, *, test: bool) -> tuple[int, list[Card]]:
    first, second = compared.first, compared.second
    said = (first.test, second.test) if test else (first.out_of_fold, second.out_of_fold)
    digits = first.test_digits if test else first.train_digits
    shown = rows[:MOST_CARDS]
    pairs = zip(said[0][shown].argmax(axis=1), said[1][shown].argmax(axis=1), strict=True)
    notes = [f"{one} → {other}" for one, other in pairs]
    return len(rows), cards(digits, shown, said[1][shown], "test image" if test else "training image", notes)
