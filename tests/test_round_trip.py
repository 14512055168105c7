"""From the download to the score and the notebook, with the unmodified client: no credential is left anywhere."""

import functools
import json
from dataclasses import replace

import numpy as np

import download
import push_kernel
import report
import submit
from digits.data.submission import write_submission
from digits.kaggle import client
from digits.kaggle.client import Kaggle
from fake_kaggle import FAST, KEY, TOKEN, USER, leaks
from made_run import make_run
from torn_files import competition_members, zip_bytes


def test_a_round_trip_leaves_and_prints_no_credential(server, monkeypatch, tmp_path, capfd):
    """Each command meets an answer that quotes the credentials, and then the right one."""
    folder, data, submissions = tmp_path / "kit", tmp_path / "kit" / "data", tmp_path / "kit" / "submissions"
    monkeypatch.setattr(client, "Kaggle", functools.partial(Kaggle, replace(FAST, attempts=2)))
    kaggle_json = tmp_path / "home" / ".kaggle" / "kaggle.json"
    kaggle_json.parent.mkdir()
    kaggle_json.write_text(json.dumps({"username": USER, "key": KEY}))
    kaggle_json.chmod(0o644)  # Which the commands warn of.
    server.archive = zip_bytes(competition_members())

    def quoting(method, status=500):
        server.fault(method, status=status, message=f"no: Bearer {TOKEN}, {USER}:{KEY}")

    quoting("DownloadDataFiles")
    download.main(["--data-dir", str(data)])
    run = make_run(monkeypatch, submissions, limit=300)
    assert report.main([run.name, "--submissions-dir", str(submissions)]) == 0
    answers = np.random.default_rng(0).permutation(np.arange(28_000) % 10).astype(np.uint8)
    write_submission(run.folder / "other.csv", np.arange(1, 28_001), answers)
    where = ["--submissions-dir", str(submissions)]
    quoting("ListSubmissions")
    assert submit.main([str(run.folder / "other.csv"), "--yes", *where]) == 0
    assert submit.main(["--status", *where]) == 0
    quoting("SaveKernel", status=403)
    push_kernel.main(["--no-wait", *where])
    push_kernel.main(["--no-wait", *where])
    out, err = capfd.readouterr()
    assert server.submissions
    assert "Traceback" not in err
    assert leaks(folder, out + err) == []
    assert {"report.html", "run.json", "ledger.csv"} <= {path.name for path in folder.rglob("*")}
