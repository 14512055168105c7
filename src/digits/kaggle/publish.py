"""A run's models as a private Kaggle dataset, for the offline notebook that a code competition asks for."""

import json
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from digits.console import BadInput, KitError
from digits.kaggle.client import Kaggle
from digits.runs.store import RUN_JSON, Run

LICENCE = "CC0-1.0"


def publish(kaggle: Kaggle, run: Run, say: Callable[[str], None] = print) -> str:
    """Upload a run's models and record as a private dataset, or as its next version; return its name, owner/slug.

    Raises:
        BadInput: if the run has no models, or is not one to submit.
        KitError: if the upload fails, or what Kaggle lists after it is not what was sent.
    """
    record = run.finished_record()
    models = run.models()
    if not models:
        raise BadInput(f"Run {run.name} has no saved models (fold-*.keras) to publish.")
    if record.leaked or record.source != "kaggle":
        raise BadInput(f"Run {run.name} was trained on {record.source!r}, not on the competition's data.")
    slug = re.sub(r"[^a-z0-9]+", "-", f"digits-{run.name}".lower()).strip("-")[:50]
    name = f"{kaggle.user_name()}/{slug}"
    before = kaggle.ask("dataset", name=name)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for file in [*models, run.folder / RUN_JSON]:
            shutil.copyfile(file, folder / file.name)
        sizes = {file.name: file.stat().st_size for file in folder.iterdir()}
        metadata = {"id": name, "title": slug, "licenses": [{"name": LICENCE}]}
        (folder / "dataset-metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
        kaggle.tell(f"Uploading {len(sizes)} files, {sum(sizes.values()) / 1e6:.1f} MB, as {name} ...")
        # Not repeated by itself: a version that arrived although its answer was lost would be there twice.
        error = kaggle.once("publish", folder=temporary, notes=f"run {run.name}", new=before is None)
    if error:
        raise KitError(f"Kaggle did not take the dataset: {error}")
    version = _wait_until_ready(kaggle, name, sizes, 0 if before is None else before["current_version_number"] or 0)
    say(f"Published version {version}, private: https://www.kaggle.com/datasets/{name}")
    return name


def _wait_until_ready(kaggle: Kaggle, name: str, sizes: dict[str, int], version_before: int) -> int:
    """Wait until Kaggle has the new version, compare the files' sizes, and return the version."""
    until = time.monotonic() + kaggle.policy.transfer_seconds
    pause = kaggle.policy.poll_seconds
    while True:
        found = kaggle.ask("dataset", name=name) or {"status": "unknown", "current_version_number": 0}
        if found["status"] in ("failed", "deleted"):
            raise KitError(f"Kaggle could not process the dataset {name} ({found['status']}).")
        if found["status"] == "ready" and (found["current_version_number"] or 0) > version_before:
            break
        if time.monotonic() > until:
            raise KitError(f"The dataset {name} is not ready yet; later: the same command.")
        kaggle.tell(f"Kaggle is processing the dataset ({found['status']}).")
        time.sleep(pause)
        pause = min(1.5 * pause, kaggle.policy.longest_poll_seconds)
    wrong = [file for file, size in sizes.items() if found["sizes"].get(file) != size]
    if wrong:
        raise KitError(f"The dataset {name} is not what was sent: {', '.join(wrong)} missing or of another size.")
    return found["current_version_number"]
