"""What a finished run came to, as text for a terminal."""

from pathlib import Path

from digits.files import ROOT, display_path


def of_run(folder: Path, facts: dict) -> str:
    """Return the closing words on a run in `folder` from what run.json holds: tables, accuracy, files."""
    sections = [_folds(facts), _voices(facts), _accuracy(facts), _warnings(facts), _files(folder, facts), _next(facts)]
    return "\n\n".join(section for section in sections if section)


def _table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([lines[0], "  ".join("─" * width for width in widths), *lines[1:]])


def _folds(facts: dict) -> str:
    if "folds" not in facts:
        return ""
    rows = [("fold", "network", "epochs", "accuracy", "wrong", "loss", "seconds")]
    for part in facts["folds"]:
        name = str(part["fold"]) + (f".{part['member']}" if facts["settings"]["members"] > 1 else "")
        accuracy = f"{part['accuracy']:.2%} ± {part['standard_error']:.2%}"
        figures = str(part["wrong"]), f"{part['loss']:.4f}", f"{part['seconds']:.0f}"
        rows.append((name, part["network"], str(part["epochs"]), accuracy, *figures))
    return _table(rows)


def _voices(facts: dict) -> str:
    if "blend" not in facts:
        return ""
    rows = [("voice", "weight", "accuracy", "wrong", "rows in which it differs from the others")]
    for voice, row in zip(facts["blend"]["members"], facts["blend"]["disagreement"], strict=True):
        weight = f"{facts['blend']['weights'][voice['name']]:.3f}"
        rows.append((voice["name"], weight, f"{voice['accuracy']:.3%}", str(voice["wrong"]), " ".join(map(str, row))))
    return _table(rows)


def _accuracy(facts: dict) -> str:
    known, score = facts["out_of_fold"], facts["expected_score"]
    kind = "Out-of-fold" if facts["settings"]["folds"] > 1 else "Held-out"
    lines = [
        f"{kind} accuracy: {known['accuracy']:.3%} ± {known['standard_error']:.3%} "
        f"({known['wrong']:,} of {known['rows']:,} wrong), loss {known['loss']:.4f}"
    ]
    if "blend" in facts:
        lines.append(f"  (blend by {facts['blend']['out_of_fold_by']})")
    test = facts["test"]
    if "accuracy" in test:
        lines.append(
            f"Test accuracy: {test['accuracy']:.2%} ± {test['standard_error']:.2%} "
            f"({test['wrong']:,} of {test['rows']:,} wrong), loss {test['loss']:.4f}"
        )
    if facts["source"] == "kaggle" and not facts["leaked"]:
        lines.append(
            f"Expected on Kaggle: {score['middle']:.5f}, 95 % between {score['low']:.5f} and {score['high']:.5f}"
        )
        if facts.get("averaging_gain"):
            lines.append(
                f"  That is one fold; the average of all {facts['settings']['folds']}, which is submitted, is better "
                f"by {facts['averaging_gain']:.5f}, as far as its own probabilities tell."
            )
    return "\n".join(lines)


def _warnings(facts: dict) -> str:
    failed = [check for check in facts.get("checks", []) if not check["passed"]]
    lines = [f"!!! CHECK FAILED: {check['name']}: {check['detail']}" for check in failed]
    if facts["leaked"]:
        lines.append("!!! LEAKED: trained on test images. These figures mean nothing, and submit.py refuses the file.")
    return "\n".join(lines)


def _files(folder: Path, facts: dict) -> str:
    copy = ROOT / facts["submission"]["copy"]
    rows = [
        f"{display_path(copy)}  {facts['submission']['rows']:,} rows, checked",
        f"{display_path(folder)}/  run.json, models, probabilities, figures, report.html",
    ]
    seconds, peak = facts["seconds"], facts.get("peak_memory_bytes")
    rows.append(f"{seconds:,.0f} s in all" + (f", {peak / 1e9:.2f} GB at most in one process" if peak else ""))
    return "\n".join(rows)


def _next(facts: dict) -> str:
    copy = display_path(ROOT / facts["submission"]["copy"])
    if facts["leaked"]:
        return ""
    if facts["source"] == "sample":
        return (
            "This was the embedded sample. For the competition, get a token at kaggle.com/settings, accept the rules\n"
            "at kaggle.com/competitions/digit-recognizer/rules, then: scripts/download.sh && python src/train.py"
        )
    if facts["source"] == "keras":
        return "Trained on MNIST itself, whose digits are the competition's answers: not for Kaggle."
    score = facts["out_of_fold"]
    # With this tag `submit.py --status` knows the run of a submission made by hand.
    kind = "out of fold" if facts["settings"]["folds"] > 1 else "held out"
    message = f"{facts['run']} {score['accuracy']:.5f} {kind}, digits:{facts['submission']['sha256'][:12]}"
    return (
        "Submit it, checked, waited for and recorded:  scripts/submit.sh\n"
        f'or by hand:  kaggle competitions submit -c digit-recognizer -f {copy} -m "{message}"'
    )
