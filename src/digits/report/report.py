"""The page about a finished run, report.html: its score and how sure, its mistakes, and where it came from."""

from pathlib import Path

import numpy as np
from markupsafe import Markup

from digits.data.dataset import Source
from digits.data.submission import ROWS
from digits.errors import KitError
from digits.kaggle.ledger import Entry, read_ledger
from digits.paths import REFERENCE
from digits.report import charts, findings, pages
from digits.report.figures import svg
from digits.report.findings import Evidence
from digits.report.pictures import png_uri
from digits.runs.runs import Run, all_runs

REPORT = "report.html"
MOST_MISTAKES, MOST_SUSPECTS, MOST_RUNS = 240, 60, 8


def build_report(
    run: Run, source: Source | None = None, data_dir: Path | None = None, reference: Path = REFERENCE
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
    evidence = findings.gather(run, source, data_dir)
    facts = evidence.facts
    voices, compared_on = findings.voices(evidence)
    return pages.write_page(
        "report.html.jinja",
        run.folder / REPORT,
        facts=facts,
        kind="Out-of-fold" if len({part.fold for part in evidence.parts}) != 1 else "Held-out",
        failed=[check for check in facts.get("checks", []) if not check["passed"]],
        passed=[check for check in facts.get("checks", []) if check["passed"]],
        missing=evidence.missing,
        rows=ROWS,
        voices=voices,
        tta=_tta(facts),
        compared_on=compared_on,
        curves=_curves(evidence),
        shares=_shares(facts),
        augmentation=_augmentation(run),
        agreements=_agreements(evidence, reference),
        ledger=_ledger(run),
        provenance=_provenance(facts),
        **(_digits(evidence) if evidence.train_digits is not None else {"confusion": None}),
    )


def _svg(draw, *arguments, name: str, **options) -> Markup:
    return Markup(svg(draw, *arguments, name=name, **options))


def _curves(evidence: Evidence) -> list[tuple[str, Markup]]:
    if not evidence.parts:
        return []
    ends = [part["accuracy"] for part in evidence.facts["folds"]]
    return [
        ("Wrong digits by epoch", _svg(charts.draw_errors, evidence.parts, ends, name="errors")),
        ("Training loss by epoch", _svg(charts.draw_losses, evidence.parts, name="losses")),
    ]


def _tta(facts: dict) -> dict:
    """How many held-out digits the networks had wrong with and without test-time augmentation, where run.json tells."""
    rows = [part for part in facts.get("folds", []) if "wrong_without_tta" in part]
    if not rows or not any(facts["recipe"].get("tta", {}).values()):
        return {}
    return {"without": sum(part["wrong_without_tta"] for part in rows), "with": sum(part["wrong"] for part in rows)}


def _shares(facts: dict) -> Markup:
    counts = facts["data"]["class_counts"], facts["test"]["class_counts"]
    return _svg(charts.draw_class_shares, *counts, name="shares", size=(5.2, 3.5))


def _augmentation(run: Run) -> str:
    file = run.folder / "augmentation.png"
    return png_uri(file.read_bytes()) if file.exists() else ""


def _digits(evidence: Evidence) -> dict:
    """What can be said only with the labels and the images."""
    probabilities, labels, scored = evidence.probabilities, evidence.labels, evidence.scored
    wrong = findings.mistakes(probabilities, labels)
    suspects = findings.suspicious_labels(probabilities, labels)
    bins, error = findings.calibration(probabilities, labels)
    counts = findings.confusion(probabilities, labels)
    file = f"{'train.csv' if evidence.facts['source'] == 'kaggle' else 'training'} image"

    def gallery(places: np.ndarray) -> list[pages.Card]:
        return pages.cards(evidence.train_digits, scored[places], probabilities[places], file)

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


def _agreements(evidence: Evidence, reference: Path) -> list[findings.Agreement]:
    others = [other for other in reversed(all_runs(evidence.run.folder.parent)) if other.name != evidence.run.name]
    found = [findings.agreement_with_run(evidence, other) for other in others[: 4 * MOST_RUNS]]
    kept = sorted(reference.glob("*/run.json")) if reference.is_dir() else []
    references = [findings.agreement_with_reference(evidence, file.parent) for file in kept]
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


def _provenance(facts: dict) -> list[tuple[str, str]]:
    """Where the run came from, as pairs of a name and a text."""
    machine = facts.get("machine", {})
    recipe = {
        name: value for name, value in facts["recipe"].items() if name != "name" and value not in (0, None, False)
    }
    files = "; ".join(f"{file['name']}: {file['rows']:,} rows, {file['form']}" for file in facts["data"]["files"])
    hashes = "; ".join(f"{file['name']} {file['sha256']}" for file in facts["data"]["files"])
    told = {
        "command": facts["command"],
        "recipe": f"{facts['recipe']['name']}: {_plain(recipe)}" if recipe else facts["recipe"]["name"],
        "settings": _plain(facts.get("settings", {})),
        "began": facts["created"],
        "took": f"{facts['seconds']:,.0f} s" + _memory(facts.get("peak_memory_bytes")),
        "machine": ", ".join(str(value) for value in machine.values()),
        "backend": f"{facts.get('backend', '')} {facts['identity'].get('precision', '')}".strip(),
        "versions": ", ".join(f"{name} {version}" for name, version in facts.get("versions", {}).items()),
        "commit": facts.get("git") or "",
        "data": files,
        "sha256 of the data": hashes,
        "sha256 of the answers": facts["submission"]["sha256"],
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
