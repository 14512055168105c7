"""A run's models as a private Kaggle dataset, for the offline notebook that a code competition asks for."""

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from digits.console import BadInput, KitError
from digits.kaggle.client import Kaggle, if_interrupted
from digits.kaggle.kernel import slug_of, user_name
from digits.runs.store import RUN_JSON, Run

LICENCE = "CC0-1.0"
LONGEST_SLUG = 49
"""Kaggle takes 50 characters, also for the title "predict …" of the notebook."""


def dataset_slug(run_name: str) -> str:
    """Return the dataset's name at Kaggle; different runs have different ones although Kaggle takes fewer letters."""
    name = f"digits-{run_name}"
    slug = slug_of(name)
    if slug == name and len(name) <= LONGEST_SLUG:
        return slug
    return f"{slug[: LONGEST_SLUG - 7]}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def notebook_title(run_name: str) -> str:
    """Return the title of the notebook that predicts with a run's models."""
    return f"predict {dataset_slug(run_name).removeprefix('digits-')}"


def publish(kaggle: Kaggle, run: Run) -> str:
    """Upload a run's models and record as a private dataset, or its next version; return its name, owner/slug."""
    record = run.finished_record()
    models = run.models()
    if not models:
        raise BadInput(f"Run {run.name} is a blend, without models of its own: publish the runs that it blends.")
    if record.leaked or record.source != "kaggle":
        raise BadInput(f"Run {run.name} was trained on {record.source!r}, not on the competition's data.")
    if (made_for := record.data.competition) not in (None, kaggle.competition.slug):
        raise BadInput(f"Run {run.name} is for {made_for}, not {kaggle.competition.slug}: add --competition {made_for}")
    slug = dataset_slug(run.name)
    name = f"{user_name(kaggle)}/{slug}"
    page = f"https://www.kaggle.com/datasets/{name}"
    before = _state(kaggle, name)
    version_before = before.get("current_version_number") or 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for file in [*models, run.folder / RUN_JSON]:
            shutil.copyfile(file, folder / file.name)
        sizes = {file.name: file.stat().st_size for file in folder.iterdir()}
        metadata = {"id": name, "title": slug, "licenses": [{"name": LICENCE}]}
        (folder / "dataset-metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
        kaggle.log(f"Uploading {len(sizes)} files, {sum(sizes.values()) / 1e6:.1f} MB, as {name} ...")
        call, arguments = "dataset_create_new", dict[str, Any](public=False)
        if before:
            kaggle.log("There is a dataset of this name: these become its next version.")
            call, arguments = "dataset_create_version", {"version_notes": f"run {run.name}"}
        # One attempt: a version that arrived although its answer was lost would be there twice.
        arguments |= {"folder": temporary, "quiet": True, "convert_to_csv": False}
        with if_interrupted(f"Kaggle may have taken it: {page}. The same command continues."):
            reply = kaggle.ask(call, arguments, attempts=1)
    if reply.get("error") or reply.get("status", "ok").lower() != "ok":
        raise KitError(f"Kaggle did not take the dataset: {reply.get('error') or reply['status']}")

    def look() -> int | None:
        state = _state(kaggle, name)
        if state.get("status") in ("failed", "deleted"):
            raise KitError(f"Kaggle could not process the dataset {name} ({state['status']}).")
        version = state.get("current_version_number") or 0
        return version if state.get("status") == "ready" and version > version_before else None

    version = kaggle.poll(look, kaggle.policy.transfer_seconds, "Kaggle is processing the dataset")
    if version is None:
        raise KitError(f"The dataset {name} is not ready yet; later: the same command.")
    listed: dict[str, int] = {}
    token = ""
    while token is not None:
        files = kaggle.ask("dataset_list_files", {"dataset": name, "page_token": token})
        listed |= {file["name"]: file.get("totalBytes", 0) for file in files.get("datasetFiles", [])}
        token = files.get("nextPageToken")
    wrong = [file for file, size in sizes.items() if listed.get(file) != size]
    if wrong:
        raise KitError(f"The dataset {name} is not what was sent: {', '.join(wrong)} missing or of another size.")
    print(f"Published version {version}, private: {page}")
    return name


def _state(kaggle: Kaggle, name: str) -> dict:
    """Return a dataset's status and current_version_number; nothing where there is none of that name."""
    return json.loads(kaggle.ask("dataset_status", {"dataset": name, "format": "json"}, absent=(403, 404)) or "{}")
