"""Two finished runs against each other: on which digits they differ, and whether chance alone explains it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from digits.errors import BadInput
from digits.report import findings, pages
from digits.report.findings import Evidence
from digits.runs import scoring
from digits.runs.runs import Run

MOST_CARDS = 120


@dataclass(frozen=True)
class Compared:
    """What two runs say of the same digits."""

    first: Evidence
    second: Evidence
    rows: np.ndarray
    """The numbers int (m,) of the training rows that both held out; none where the runs share no data."""
    verdict: scoring.Comparison | None
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
        leaked = [one.run.name for one in (self.first, self.second) if one.facts["leaked"]]
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
    runs = [findings.gather(run, data_dir=data_dir) for run in (first, second)]
    changed = None
    if findings.test_images_of(runs[0].facts) == findings.test_images_of(runs[1].facts):
        changed = np.flatnonzero(runs[0].test.argmax(axis=1) != runs[1].test.argmax(axis=1))
    rows, verdict = np.array([], int), None
    if runs[0].facts["identity"]["data"] == runs[1].facts["identity"]["data"] and runs[0].train_digits is not None:
        rows = np.intersect1d(runs[0].scored, runs[1].scored)
    if len(rows):
        answers = [run.out_of_fold[rows].argmax(axis=1) for run in runs]
        verdict = scoring.mcnemar(*answers, runs[0].train_digits.labels[rows])
    if verdict is None and changed is None:
        raise BadInput(
            f"Runs {first.name} and {second.name} have nothing in common to compare. {runs[0].missing}".rstrip()
        )
    return Compared(*runs, rows, verdict, changed)


def build_comparison(compared: Compared) -> Path:
    """Write the page about two runs into the first one's folder and return where it is."""
    first, second = compared.first, compared.second
    only_first, only_second, changed = _galleries(compared)
    return pages.write_page(
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


def _galleries(compared: Compared) -> list[tuple[int, list[pages.Card]]]:
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


def _gallery(compared: Compared, rows: np.ndarray, *, test: bool) -> tuple[int, list[pages.Card]]:
    first, second = compared.first, compared.second
    said = (first.test, second.test) if test else (first.out_of_fold, second.out_of_fold)
    digits = first.test_digits if test else first.train_digits
    shown = rows[:MOST_CARDS]
    pairs = zip(said[0][shown].argmax(axis=1), said[1][shown].argmax(axis=1), strict=True)
    notes = [f"{one} → {other}" for one, other in pairs]
    return len(rows), pages.cards(digits, shown, said[1][shown], "test image" if test else "training image", notes)
