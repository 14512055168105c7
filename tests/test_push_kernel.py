"""The notebook's round trip, and publishing models for one, with a Kaggle in memory and once through the client."""

import json
import re
import shlex
from dataclasses import replace

import numpy as np
import pytest

import publish
import push_kernel
import submit
from digits.config import load_recipe
from digits.console import BadInput, KaggleRefused, KitError
from digits.data.competition import DIGIT_RECOGNIZER, KANNADA_MNIST
from digits.data.submission import known_form, write_submission
from digits.kaggle import kernel
from digits.kaggle.kernel import Push
from digits.kaggle.publish import dataset_slug, notebook_title
from digits.kaggle.publish import publish as publish_run
from digits.runs.record import FoldScore
from digits.runs.store import Run
from fake_kaggle import FASTER, USER, leaks
from made_run import SCORE, made_record

SLUG = json.loads((push_kernel.KIT / "kernel-metadata.json").read_text())["id"].partition("/")[2]
OF_THREE_ROWS = replace(DIGIT_RECOGNIZER, test=replace(DIGIT_RECOGNIZER.test, rows=3))
SUBMISSION = b"ImageId,Label\n1,7\n2,0\n3,9\n"


@pytest.fixture
def go(memory, tmp_path, log):
    """Return the round trip of the kit's own notebook, whose submission has three rows."""

    def go(seconds=5, folder=push_kernel.KIT, **changes):
        kaggle = memory.kaggle(log.append, competition=OF_THREE_ROWS)
        pushed = kernel.push(kaggle, folder, kernel.Changes(**changes), tmp_path)
        kernel.wait(kaggle, pushed, tmp_path, seconds)
        return kernel.fetch(kaggle, pushed, tmp_path)

    return go


def test_the_notebook_is_pushed_as_the_user_s_own_waited_for_and_its_submission_fetched(memory, go, log, capsys):
    memory.output["1/submission.csv"] = SUBMISSION
    memory.log = "".join(f"line {number}\n" for number in range(100))
    assert go().read_bytes() == SUBMISSION
    (sent,) = memory.pushed
    assert sent["slug"] == f"{USER}/{SLUG}"
    assert sent["competitionDataSources"] == ["digit-recognizer"]
    assert (sent["isPrivate"], sent["enableGpu"], sent["enableInternet"]) == (True, True, False)
    assert f"as {USER}/{SLUG}: private, a GPU, internet off, data: digit-recognizer" in "\n".join(log)
    printed = capsys.readouterr().out
    for words in ("version 1: https://www.kaggle.com/code/", "queued", "running", "complete", "line 99", "3 rows"):
        assert words in printed
    assert "line 80\n" not in printed


def test_the_flags_change_the_pushed_copy_only(memory, go):
    memory.output |= {f"{version}/submission.csv": SUBMISSION for version in range(1, 5)}
    before = {file.name: file.read_bytes() for file in (push_kernel.KIT).iterdir() if file.is_file()}
    go(arguments=["--recipe", "quick", "--set", "epochs=3"], accelerator="T4x2", title="My Digits, again")
    (sent,) = memory.pushed
    code = "\n".join(cell["source"] for cell in json.loads(sent["text"])["cells"])
    assert 'ARGUMENTS = ["--recipe", "quick", "--set", "epochs=3"]' in code
    assert 'ARGUMENTS = ["--recipe", "standard"]' not in code
    assert (sent["slug"], sent["newTitle"]) == (f"{USER}/my-digits-again", "My Digits, again")
    assert (sent["machineShape"], sent["enableGpu"]) == ("NvidiaTeslaT4", True)
    assert {file.name: file.read_bytes() for file in (push_kernel.KIT).iterdir() if file.is_file()} == before
    for accelerator, gpu, machine in (("None", False, None), ("cpu", False, None), ("GPU", True, None)):
        go(accelerator=accelerator)
        assert (memory.pushed[-1].get("enableGpu", False), memory.pushed[-1].get("machineShape")) == (gpu, machine)


def test_a_foreign_notebook_is_pushed_private_under_the_user_s_own_id_unless_a_flag_says_public(memory, go, tmp_path):
    memory.output = {f"{version}/submission.csv": SUBMISSION for version in (1, 2)}
    metadata = {"id": "somebody/their-work", "id_no": 123, "title": "Their Work", "code_file": "kit.ipynb"}
    metadata |= {"language": "python", "kernel_type": "notebook", "is_private": False, "enable_internet": True}
    (tmp_path / "kernel-metadata.json").write_text(json.dumps(metadata))
    (tmp_path / "kit.ipynb").write_text((push_kernel.KIT / "kit.ipynb").read_text())
    for public in (False, True):
        go(folder=tmp_path, public=public)
        sent = memory.pushed[-1]
        assert (sent["slug"], sent.get("id"), sent.get("isPrivate", False)) == (f"{USER}/their-work", None, not public)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"title": "数字识别器"}, "five characters or more with Latin letters", id="no Latin letter"),
        pytest.param({"title": "abc"}, "five characters or more with Latin letters", id="too short"),
        pytest.param({"accelerator": "a100"}, "expected one of none, cpu, gpu, t4, t4x2", id="accelerator"),
        pytest.param({"folder": push_kernel.ROOT / "tests"}, r"build_kernel\.py", id="no notebook"),
    ],
)
def test_what_kaggle_would_misunderstand_is_refused_before_anything_is_sent(memory, go, changes, words):
    with pytest.raises(BadInput, match=words):
        go(**changes)
    assert not memory.calls


def test_the_notebook_s_address_is_the_one_of_kaggle_s_answer(memory, go, tmp_path):
    memory.output["1/submission.csv"] = SUBMISSION
    memory.push_reply = {"url": f"https://www.kaggle.com/code/{USER}/ziffern-f-r-anf-nger"}
    go(title="Ziffern für Anfänger")
    assert memory.pushed[0]["slug"] == f"{USER}/ziffern-fur-anfanger"
    assert kernel.last_push(tmp_path).name == f"{USER}/ziffern-f-r-anf-nger"
    assert memory.requests["GetKernelSessionStatus"][0]["kernelSlug"] == "ziffern-f-r-anf-nger"


def test_the_user_s_edits_are_pushed_as_they_are(memory, go, tmp_path):
    memory.output["1/submission.csv"] = SUBMISSION
    metadata, book = (
        json.loads((push_kernel.KIT / name).read_text()) for name in ("kernel-metadata.json", "kit.ipynb")
    )
    (tmp_path / "kernel-metadata.json").write_text(json.dumps(metadata | {"enable_gpu": False}))
    for cell in book["cells"]:
        cell["source"] = "".join(cell["source"]).replace("ARGUMENTS = [", "ARGUMENTS = 2 * [")
    (tmp_path / "kit.ipynb").write_text(json.dumps(book))
    go(folder=tmp_path)
    assert memory.pushed[0]["enableGpu"] is False
    assert "ARGUMENTS = 2 * [" in memory.pushed[0]["text"]
    with pytest.raises(BadInput, match=r"has no line 'ARGUMENTS"):
        go(folder=tmp_path, arguments=["--recipe", "quick"])


def test_a_fetched_run_is_a_run_like_any_other(memory, go, tmp_path):
    record = made_record(run="notebook")
    record.write(tmp_path / "run.json")
    memory.output |= {
        "1/submission.csv": SUBMISSION,
        "1/submissions/notebook/run.json": (tmp_path / "run.json").read_bytes(),
        "1/submissions/notebook/test_probabilities.npy": b"npy",
        "1/submissions/notebook/fold-1.keras": b"not wanted",
    }
    folder = go().parent
    names = sorted(path.name for path in folder.iterdir())
    assert names == [f"{SLUG}.log", "run.json", "submission.csv", "test_probabilities.npy"]
    assert Run(folder).finished_record().run == folder.name


def test_a_log_that_is_no_json_and_answers_that_are_not_kaggle_s_are_no_traceback(memory, go, tmp_path):
    memory.output |= {"1/submission.csv": SUBMISSION, "2/submission.csv": b"ImageId,Label\n1,7\n2,x\n3,9\n"}
    memory.log = "plain words"
    assert go().exists()
    with pytest.raises(BadInput, match="line 3"):
        go()
    assert len(list(tmp_path.glob("*/submission.csv"))) == 1
    memory.states, memory.failure, memory.log = ["RUNNING", "ERROR"], "out of memory", "epoch 1\nKilled\n"
    with pytest.raises(KitError, match=r"(?s)Version 3 ended as error: out of memory.*Killed"):
        go()
    memory.fault("SaveKernel", status=200)
    with pytest.raises(KitError, match="a login page"):
        go()
    memory.fault("SaveKernel", drop=True)
    with pytest.raises(KitError, match="connection to Kaggle failed"):
        go()
    assert memory.calls["SaveKernel"] == 5


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        ({"error": "Maximum weekly GPU quota of 30.00 hours reached."}, KaggleRefused, "--accelerator none"),
        ({"error": "The requested title is in use"}, KaggleRefused, "--title"),
        ({"invalidCompetitionSources": ["digit-recogniser"]}, KitError, "digit-recogniser"),
        ({"versionNumber": 0}, KitError, "its version"),
    ],
    ids=["quota", "title", "source", "version"],
)
def test_what_kaggle_refuses_with_a_polite_answer_is_an_error_with_its_remedy(memory, go, reply, kind, words):
    memory.push_reply = reply
    with pytest.raises(kind, match=words):
        go()
    assert memory.calls["GetKernelSessionStatus"] == 0


def test_a_run_that_takes_too_long_is_left_running_and_can_be_fetched_later(memory, go, tmp_path):
    memory.states = ["RUNNING"]
    with pytest.raises(KitError, match=r"(?s)still running after 0 s.*https.*--fetch someone/[a-z-]+/1"):
        go(seconds=0.01)
    memory.states = ["COMPLETE"]
    memory.output["1/submission.csv"] = SUBMISSION
    pushed = kernel.last_push(tmp_path)
    assert kernel.fetch(memory.kaggle(competition=OF_THREE_ROWS), pushed, tmp_path).exists()
    assert kernel.last_push(tmp_path, "7").version == 7
    assert kernel.last_push(tmp_path, "a/b-c/7").name == "a/b-c"
    with pytest.raises(BadInput, match="OWNER/NOTEBOOK/NUMBER"):
        kernel.last_push(tmp_path, "a/b")


def test_an_interrupt_says_what_may_have_happened_and_what_continues(memory, go, monkeypatch, tmp_path):
    def interrupt(request):
        raise KeyboardInterrupt

    for call, words in [
        ("_GetKernelSessionStatus", r"(?s)runs on at Kaggle.*--fetch someone/"),
        ("_ListKernelSessionOutput", "Fetch it later: scripts/push_kernel.sh --fetch someone/"),
        ("_SaveKernel", "may have taken it: https://www.kaggle.com/code/someone/"),
    ]:
        with monkeypatch.context() as patch:
            patch.setattr(memory, call, interrupt)
            with pytest.raises(KeyboardInterrupt, match=words):
                go()
    monkeypatch.setattr(memory, "_CreateDataset", interrupt)
    with pytest.raises(KeyboardInterrupt, match=r"may have taken it: .*digits-my-run\. The same command"):
        publish_run(memory.kaggle(), make_run(tmp_path))


def test_a_version_that_kaggle_does_not_know_at_once_is_waited_for_and_a_lasting_trouble_ends(memory, tmp_path, capsys):
    pushed = Push(f"{USER}/digits-kit", 1)
    memory.fault("GetKernelSessionStatus", status=403)
    kernel.wait(memory.kaggle(policy=replace(FASTER, call_seconds=60)), pushed, tmp_path, 60)
    assert capsys.readouterr().out.endswith("complete\n")
    memory.fault("GetKernelSessionStatus", times=99, status=503)
    with pytest.raises(KitError, match=r"(?s)HTTP 503.*--fetch"):
        kernel.wait(memory.kaggle(policy=replace(FASTER, call_seconds=0)), pushed, tmp_path, 60)


def test_the_command_pushes_fetches_and_tells_the_status(memory, tmp_path, capsys):
    folder = ["--submissions-dir", str(tmp_path)]
    assert push_kernel.main(["--status", *folder]) == 2
    assert (
        push_kernel.main(["--recipe", "quick", "--set", "epochs=2", "--accelerator", "none", "--no-wait", *folder]) == 0
    )
    assert re.search(rf"--fetch someone/\S+/1 --submissions-dir {tmp_path}$", capsys.readouterr().out, re.M)
    assert memory.pushed[0]["enableGpu"] is False
    assert push_kernel.main(["--status", *folder]) == 0
    assert "/1: queued" in capsys.readouterr().out
    memory.output["1/submission.csv"] = SUBMISSION
    assert push_kernel.main(["--fetch", *folder]) == 2
    assert "expected 28,000 rows" in capsys.readouterr().err
    for wrong in (["--fetch", "--no-wait"], ["--fetch", "--recipe", "quick"], ["--wait", "-1"]):
        with pytest.raises(SystemExit):
            push_kernel.main([*wrong, *folder])


def test_the_output_of_a_version_is_fetched_page_by_page_and_of_no_other(memory, tmp_path, log):
    memory.output = {f"1/other-{number}.txt": b"other" for number in range(25)} | {"1/submission.csv": SUBMISSION}
    kaggle = memory.kaggle(log.append, competition=OF_THREE_ROWS)
    pushed = kernel.push(kaggle, push_kernel.KIT, kernel.Changes(accelerator="tpu"), tmp_path)
    kernel.wait(kaggle, pushed, tmp_path, 60)
    submission = kernel.fetch(kaggle, pushed, tmp_path)
    assert submission.read_bytes() == SUBMISSION
    assert sorted(path.name for path in submission.parent.iterdir()) == [f"{SLUG}.log", "submission.csv"]
    (sent,) = memory.pushed
    assert (sent["machineShape"], sent["enableTpu"], sent["isPrivate"]) == ("TpuV5E8", True, True)
    with pytest.raises(KitError, match="Version 2 left no submission"):
        kernel.fetch(kaggle, Push(pushed.name, 2), tmp_path)
    memory.output["3/submission.csv"] = SUBMISSION
    memory.fault("submission.csv", status=403)
    with pytest.raises(KitError, match="HTTP 403"):
        kernel.fetch(kaggle, Push(pushed.name, 3), tmp_path)
    memory.output = {"4/submissions/../run.json": b"{}", "4/submissions/../../run.json": b"{}"}
    with pytest.raises(KitError, match=r"left no submission\.csv"):
        kernel.fetch(kaggle, Push(pushed.name, 4), tmp_path)
    assert [path.parent.name for path in tmp_path.rglob("submission.csv")] == [f"{SLUG}-v1"]
    assert not list(tmp_path.rglob("run.json"))
    assert leaks(tmp_path, "\n".join(log)) == []


# Publishing.


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        pytest.param(["--competition", "kannada-mnist"], "publish.sh RUN --competition kannada-mnist", id="another"),
        pytest.param(["--recipe", "quik"], "Did you mean quick?", id="recipe"),
        pytest.param(["--set", "epoch=3"], "epochs", id="setting"),
        pytest.param(["--recipe", "mine.toml"], "the kit's recipes and networks only", id="a recipe of one's own"),
    ],
)
def test_what_the_notebook_could_not_train_is_refused(memory, tmp_path, monkeypatch, capsys, flags, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text('base = "quick"\n')
    assert push_kernel.main([*flags, "--submissions-dir", str(tmp_path)]) == 2
    assert words in capsys.readouterr().err
    assert not memory.calls


def test_names_of_different_runs_do_not_meet_at_kaggle():
    names = ["x.1", "x_1", "x-1", "X-1", "x--1", "run" * 30, "run" * 30 + "b"]
    slugs = [dataset_slug(name) for name in names]
    assert len(set(slugs)) == len(names)
    assert slugs[2] == "digits-x-1"
    for name, slug in zip(names, slugs, strict=True):
        assert re.fullmatch(r"[a-z0-9-]{6,50}", slug)
        assert len(notebook_title(name)) <= 50


def make_run(folder, **changes):
    run = Run(folder / "my-run")
    run.folder.mkdir(parents=True)
    for fold in (1, 2):
        run.model_path(fold, 1).write_bytes(bytes(fold))
    scores = [FoldScore(**vars(SCORE), fold=fold, member=1, network="compact", epochs=1, seconds=1) for fold in (1, 2)]
    run.write_record(made_record(run="my-run", folds=scores, **changes))
    write_submission(run.folder / "submission.csv", np.arange(1, 4), np.arange(3))
    return run


def test_a_run_s_models_are_published_as_a_private_dataset_and_then_as_its_next_version(memory, tmp_path, log, capsys):
    recipe = replace(load_recipe("quick"), networks=("mine.py:lenet",), sources={"mine.py": "def lenet(): ..."})
    run = make_run(tmp_path, recipe=recipe)
    for version in (1, 2):
        assert publish_run(memory.kaggle(log.append), run) == f"{USER}/digits-my-run"
        assert memory.dataset["version"] == version
    assert sorted(memory.dataset["sizes"]) == ["fold-1.keras", "fold-2.keras", "run.json"]
    address = f"https://www.kaggle.com/datasets/{USER}/digits-my-run"
    assert f"Published version 2, private: {address}\n" in capsys.readouterr().out
    assert any("these become its next version" in line for line in log)
    (created,) = memory.requests["CreateDataset"]
    assert created["isPrivate"] is True
    assert sorted(file["token"] for file in created["files"]) == ["fold-1.keras", "fold-2.keras", "run.json"]
    assert len(memory.uploads) == 6
    record = next(content for content in memory.uploads if content.startswith(b"{"))
    assert json.loads(record)["recipe"]["sources"] == {"mine.py": "def lenet(): ..."}


def test_what_cannot_be_published_is_refused(memory, tmp_path, monkeypatch):
    with pytest.raises(BadInput, match="'sample'"):
        publish_run(memory.kaggle(), make_run(tmp_path / "a", source="sample"))
    data = replace(made_record().data, competition="kannada-mnist")
    with pytest.raises(BadInput, match="is for kannada-mnist, not digit-recognizer: add --competition kannada-mnist"):
        publish_run(memory.kaggle(), make_run(tmp_path / "c", data=data))
    assert not memory.calls
    run = make_run(tmp_path / "b")
    create = memory._CreateDataset

    def loses_a_file(request):
        create(request)
        memory.dataset["sizes"].pop("fold-2.keras")
        return {"status": "ok"}

    monkeypatch.setattr(memory, "_CreateDataset", loses_a_file)
    with pytest.raises(KitError, match=r"not what was sent: fold-2\.keras missing"):
        publish_run(memory.kaggle(), run)
    memory.dataset = None
    monkeypatch.setattr(memory, "_CreateDataset", lambda request: {"error": "The slug is in use"})
    with pytest.raises(KitError, match="slug is in use"):
        publish_run(memory.kaggle(), run)
    memory.fault("CreateDataset", drop=True)
    with pytest.raises(KitError, match="connection to Kaggle failed"):
        publish_run(memory.kaggle(), run)
    assert memory.calls["CreateDataset"] == 3  # A lost answer is not asked for again: the version may be there.
    for state, words in (("FAILED", "could not process the dataset"), ("BLOBS_RECEIVED", "not ready yet")):
        memory.dataset = None
        monkeypatch.setattr(memory, "_CreateDataset", lambda request: create(request))
        memory.new_dataset_status = state
        with pytest.raises(KitError, match=words):
            publish_run(memory.kaggle(), run)
    for model in run.folder.glob("*.keras"):
        model.unlink()
    with pytest.raises(BadInput, match="lacks 2 of 2 saved models"):
        publish_run(memory.kaggle(), run)


def test_the_publish_command_uploads_predicts_and_names_the_command_that_submits(memory, tmp_path, capsys):
    make_run(tmp_path)
    write_submission(tmp_path / "s.csv", np.arange(5_000), np.arange(5_000) % 10, known_form(KANNADA_MNIST))
    memory.output["1/submission.csv"] = (tmp_path / "s.csv").read_bytes()
    assert publish.main(["my-run", "--submissions-dir", str(tmp_path), "--competition", "kannada-mnist"]) == 0
    (sent,) = memory.pushed
    assert sent["datasetDataSources"] == [f"{USER}/digits-my-run"]
    assert sent["competitionDataSources"] == ["kannada-mnist"]
    assert not {"enableInternet", "enableGpu"} & {name for name, value in sent.items() if value}
    command = f"scripts/submit.sh --notebook {USER}/predict-my-run/1 --competition kannada-mnist"
    printed = capsys.readouterr().out.rpartition("Submit it: ")[2]
    assert printed == f"{command} --submissions-dir {tmp_path}\n"
    assert submit.main([*shlex.split(printed)[1:], "--dry-run"]) == 0
    assert "5,000 rows" in capsys.readouterr().out
