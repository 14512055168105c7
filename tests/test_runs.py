"""A run's folder: made once, found again, refused to others, and read back."""

import contextlib
import dataclasses
import errno
import json
import multiprocessing
import os
import shutil
import time

import numpy as np
import pytest

import made_run
from digits.config import Augmentation, Execution, Settings, Tta, load_recipe
from digits.console import BadInput, KitError, explain
from digits.data import dataset
from digits.files import REFERENCE, ROOT, BrokenFileError, atomic_write, remove_temporaries
from digits.report import analysis
from digits.runs import identity, store
from digits.runs.record import Record
from digits.runs.store import FoldResult, Run, load_fold_result, open_run, resumable, save_fold_result
from digits.training import crossval, pipeline
from digits.training.fold import Arrays
from made_run import made_record, make_run

IDENTITY = {"recipe": "quick", "seed": 0, "data": "abc", "code.x": "def"}


def opened(submissions, name=None, identity=IDENTITY):
    run, before = open_run(identity, name, submissions)
    if before is None:
        run.write_record(made_record(False, run=run.name, identity=identity))
    return run, before is not None


def a_result(fold=1, member=1):
    random = np.random.default_rng(fold)
    say = random.random((5, 10), np.float32)
    return FoldResult(fold, member, "compact", np.arange(5), say, say[:3], [{"epoch": 1, "loss": 0.5}], 1.5, 1000)


def same(one, other):
    return all(np.array_equal(vars(one)[name], vars(other)[name]) for name in vars(one))


def test_a_truncated_result_is_refused_and_one_with_a_changed_bit_too_or_it_is_read_as_it_was(tmp_path):
    path = tmp_path / "fold-1.npz"
    save_fold_result(path, a_result())
    whole, random = path.read_bytes(), np.random.default_rng(0)
    for share in (0.0, 0.1, 0.5, 0.9, 0.999):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(BrokenFileError, match=r"fold-1\.npz is damaged"):
            load_fold_result(path)
    for _ in range(300):
        broken = bytearray(whole)
        broken[random.integers(len(whole))] ^= 1 << random.integers(8)
        path.write_bytes(broken)
        with contextlib.suppress(BrokenFileError):  # Else the bit was in a date or another word that no array needs.
            assert same(load_fold_result(path), a_result())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(np.zeros(3), "is not a fold's result", id="something else"),
        pytest.param(np.array([print], dtype=object), "allow_pickle=False", id="pickled objects"),
    ],
)
def test_an_npz_of_something_else_is_no_result_and_never_unpickled(tmp_path, content, words):
    np.savez(tmp_path / "fold-1.npz", weights=content)
    with pytest.raises(BrokenFileError, match=words):
        load_fold_result(tmp_path / "fold-1.npz")


def test_the_same_command_takes_up_its_unfinished_run_and_no_other(tmp_path):
    first, again = opened(tmp_path)
    assert not again
    assert opened(tmp_path) == (first, True)
    other, again = opened(tmp_path, identity=IDENTITY | {"seed": 1})
    assert not again
    assert other.folder != first.folder
    first.write_record(made_record(identity=IDENTITY))
    assert opened(tmp_path)[0].folder != first.folder


def test_another_recipe_data_or_code_is_refused_and_every_difference_named(tmp_path):
    opened(tmp_path, "mine")
    with pytest.raises(BadInput) as refusal:
        opened(tmp_path, "mine", IDENTITY | {"seed": 7, "data": "xyz", "code.x": "new", "recipe.epochs": 3})
    for difference in ("seed was 0 and is 7", "data was 'abc'", "code.x was 'def'", "recipe.epochs was 10 and is 3"):
        assert difference in str(refusal.value)
    assert "own settings: python src/train.py --run mine" in str(refusal.value)
    with pytest.raises(BadInput, match="All but resuming works as before; to resume it: "):
        opened(tmp_path, "mine", IDENTITY | {"code.x": "new"})
    assert opened(tmp_path, "mine", IDENTITY | {"recipe": "renamed"})[1], "a name changes no probability"


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "reference", "x" * 101, "Ü", "a b", "-flag"])
def test_a_name_that_no_run_can_have_is_refused(tmp_path, name):
    with pytest.raises(BadInput, match="expected a name of letters"):
        open_run(IDENTITY, name, tmp_path)


def test_a_run_that_was_killed_before_it_had_a_record_is_begun_again_and_another_folder_taken_for_none(tmp_path):
    run, _ = open_run(IDENTITY, "mine", tmp_path)
    (run.folder / ".lock").touch()
    (run.folder / ".run.json.12ab34cd.tmp.json").write_text("{")
    assert open_run(IDENTITY, "mine", tmp_path) == (run, None)
    (run.folder / "thesis.tex").touch()
    with pytest.raises(BadInput, match=r"is no run \(it holds 'thesis.tex'"):
        open_run(IDENTITY, "mine", tmp_path)


def test_two_runs_begun_in_the_same_second_get_folders_of_their_own_and_a_clock_set_back_does_not_matter(tmp_path):
    names = {open_run(IDENTITY | {"seed": seed}, None, tmp_path)[0].name for seed in range(5)}
    assert len(names) == 5
    run, _ = opened(tmp_path)
    os.utime(run.folder / "run.json", (4e9, 4e9))
    assert opened(tmp_path) == (run, True)
    assert opened(tmp_path, identity=IDENTITY | {"seed": 1})[1] is False


def hold(folder, ready):
    with Run(folder).locked():
        ready.set()
        time.sleep(60)


def test_the_second_process_on_a_run_is_told_and_a_first_that_was_killed_holds_it_no_more(tmp_path):
    run, _ = opened(tmp_path, "mine")
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    holder = context.Process(target=hold, args=(run.folder, ready))
    holder.start()
    assert ready.wait(30)
    with pytest.raises(KitError, match="Run mine is being worked on by another process"), run.locked():
        pass
    holder.kill()
    holder.join()
    half = run.results_folder / ".fold-1.npz.12ab34cd.tmp.npz"
    half.write_bytes(b"half")
    with run.locked():
        assert not half.exists()
    assert (run.folder / "run.json").exists()


def test_a_file_system_without_locks_is_said_and_no_fault(tmp_path, monkeypatch, capsys):
    def flock(file, operation):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    run, _ = opened(tmp_path, "mine")
    monkeypatch.setattr("fcntl.flock", flock)
    with run.locked():
        pass
    assert f"Note: {run.folder} is on a file system without locks" in capsys.readouterr().out


def write_half(path):
    path.write_text("half")
    raise OSError(errno.ENOSPC, "No space left on device", str(path))


def test_a_file_is_replaced_whole_or_stays_as_it_was(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError), atomic_write(path) as temporary:
        temporary.write_text("half of the ü", encoding="ascii")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(OSError, match="No space left") as full, atomic_write(path) as temporary:
        write_half(temporary)
    assert explain(full.value) == f"No space left on device: {path}"
    assert explain(OSError("1000 requested and 10 written")).startswith("No space left on device")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with atomic_write(path) as temporary:
        temporary.write_text("new")
    remove_temporaries(tmp_path)
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left"), KitError("failed")], ids=repr)
def test_whatever_ends_a_run_early_names_the_command_that_resumes_it(error):
    kind, command = KitError if isinstance(error, OSError) else type(error), "python src/train.py --run mine"
    with pytest.raises(kind, match=f"Resume with: {command}"), resumable(command):
        raise error


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '"run"', "\udcff"])
def test_a_broken_record_is_refused_with_its_path(tmp_path, text):
    (tmp_path / "run.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BadInput, match=r"run\.json: "):
        Run(tmp_path).record()


def test_a_run_that_does_not_exist_is_refused_with_those_that_do(tmp_path):
    opened(tmp_path, "mine")
    with pytest.raises(BadInput, match=r"There is no run 'yours'\. There are: mine\."):
        store.find_run("yours", tmp_path)
    for number in range(5):
        opened(tmp_path, f"more-{number}")
    with pytest.raises(BadInput, match=r"The newest of 6: .*more-4\. All: python src/report\.py"):
        store.find_run("yours", tmp_path)


def recorded(folder, settings, data):
    """A run with the record of `settings`, as training writes it."""
    folder.mkdir()
    run = Run(folder)
    run.write_record(Record.begin("mine", settings, data, IDENTITY, Execution()))
    return run


@pytest.fixture(scope="module")
def data():
    return dataset.load("sample", limit=100)


def test_a_record_gives_back_every_setting_overridden_ones_too(tmp_path, data):
    recipe = load_recipe("standard").changed(
        folds=3, members=2, networks=("compact", "vgg"), augmentation=Augmentation(rotation_degrees=3), tta=Tta(2, 5)
    )
    settings = Settings(recipe, seed=5, source="sample", limit=700, deterministic=True)
    assert recorded(tmp_path / "mine", settings, data).record().asked() == settings


def repeated(folder, given=(), **execution):
    return store.repeated_record(Execution(submissions=folder, **execution), given)


def test_flags_beside_a_record_are_refused_and_a_run_is_resumed_by_its_name_alone(tmp_path, data):
    settings = Settings(load_recipe("quick"), seed=3)
    run = recorded(tmp_path / "mine", settings, data)
    for name in (str(run.folder / "run.json"), str(run.folder), "mine"):
        assert repeated(tmp_path, from_run=name).asked() == settings
    with pytest.raises(BadInput, match="leave out --seed, --folds"):
        repeated(tmp_path, ["--seed", "--folds"], from_run="mine")
    assert repeated(tmp_path, run="mine").asked() == settings
    assert repeated(tmp_path, ["--seed"], run="mine") is None
    assert repeated(tmp_path, ["--seed"], run="new") is None


def test_a_run_to_resume_that_does_not_exist_is_refused_with_the_nearest(tmp_path, data):
    recorded(tmp_path / "mine", Settings(load_recipe("quick")), data)
    with pytest.raises(BadInput, match=r"no run 'mne' to resume\. Did you mean mine\?.* There are: mine\."):
        repeated(tmp_path, run="mne")


def test_a_blend_and_a_network_that_is_gone_cannot_be_trained_again():
    with pytest.raises(BadInput, match="is a blend and cannot be trained again"):
        made_record(recipe=None).asked()
    recipe = load_recipe("standard").changed(networks=("compact", "lenet"))
    with pytest.raises(BadInput, match="Run made has the network lenet, which is not among seed, compact"):
        made_record(recipe=recipe).asked()


def test_a_reference_runs_rounded_probabilities_give_its_answers_and_its_score():
    run = Run(REFERENCE / "best-gpu")
    out_of_fold, test = run.probabilities()
    assert (out_of_fold.shape, test.shape, test.dtype) == ((42_000, 10), (28_000, 10), np.float32)
    assert np.abs(out_of_fold.sum(axis=1) - 1).max() < 1e-5
    assert (test.argmax(axis=1) == run.predictions()).all()
    assert len(analysis.gather(run).scored) == 42_000
    assert sum(path.stat().st_size for path in run.folder.iterdir()) < 500_000


@pytest.mark.parametrize("path", sorted(REFERENCE.glob("*/run.json")), ids=lambda path: path.parent.name)
def test_the_records_of_the_reference_runs_are_read(path):
    record = Run(path.parent).finished_record()
    assert record.recipe_name == path.parent.name
    assert record.folds[0].log_loss > 0


def test_results_are_read_as_they_were_written_in_folds_or_by_an_earlier_version_in_parts(tmp_path):
    assert Run(tmp_path).result_path(1, 1) == tmp_path / "folds" / "fold-1.npz"
    (tmp_path / "parts").mkdir()
    save_fold_result(tmp_path / "parts" / "fold-1.npz", a_result())
    assert same(*Run(tmp_path).fold_results(), a_result())


def test_a_record_is_read_as_it_was_written_and_what_it_lacks_or_has_of_a_wrong_type_named_with_its_key(tmp_path):
    for record in (made_record(False), made_record()):
        Run(tmp_path).write_record(record)
        assert Run(tmp_path).record() == record
    whole = json.loads(json.dumps(record.to_dict()))

    def refusal(**changes):
        values = whole | changes
        (tmp_path / "run.json").write_text(json.dumps({key: value for key, value in values.items() if value != "gone"}))
        with pytest.raises(BadInput) as error:
            Run(tmp_path).record()
        return str(error.value).partition("run.json: ")[2]

    assert refusal(data="gone") == "'data' is missing."
    assert refusal(out_of_fold=whole["out_of_fold"] | {"wrong": "many"}) == (
        "'out_of_fold.wrong': expected a whole number, found str 'many'."
    )
    assert refusal(checks=[{"name": "x", "passed": True}]) == "'checks.0.detail' is missing."
    assert refusal(leaked=None) == "'leaked': expected true or false, found null."
    assert refusal(seconds=10**400) == "'seconds': expected a number, found one of 401 digits."
    assert refusal(version=99).startswith("expected version 2, found 99")


def test_a_resumed_run_counts_the_seconds_of_all_and_keeps_what_it_began_with(tmp_path, monkeypatch):
    run = make_run(monkeypatch, tmp_path)
    origin = {"created": "2026-11-23T04:11:37+00:00", "command": "python src/train.py --seed 0", "git": "0123456"}
    run.write_record(dataclasses.replace(run.record(), seconds=5000.0, **origin))
    resumed = make_run(monkeypatch, tmp_path).record()
    assert {name: getattr(resumed, name) for name in origin} == origin
    assert 5000 < resumed.seconds < 6000


@pytest.mark.parametrize("during", ["training", "the check of the models"])
def test_a_run_that_is_interrupted_keeps_count_of_its_seconds(tmp_path, monkeypatch, during):
    clock = [0.0]

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    def trained(*arguments):
        clock[0] += 100
        return interrupted() if during == "training" else made_run.cross_validate(*arguments)

    run = make_run(monkeypatch, tmp_path)
    run.write_record(dataclasses.replace(run.record(), seconds=5000.0))
    settings = run.record().asked()
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(pipeline, "cross_validate", trained)
    monkeypatch.setattr(pipeline, "check_saved_models", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pipeline.train(settings, Execution(run=run.name, submissions=tmp_path, report=False))
    with pytest.raises(BadInput, match="not finished"):
        run.finished_record()
    assert run.record().seconds == 5100


def test_a_run_that_is_killed_while_it_trains_has_counted_the_seconds_until_its_last_network(tmp_path, monkeypatch):
    clock, run, recorded = [0.0], Run(tmp_path / "mine"), []

    def train_in_worker(task, folder, **how):
        if task.fold == 3:  # Another thread writes what the two before came to.
            deadline = time.monotonic() + 30
            while run.record().seconds < 200 and time.monotonic() < deadline:
                time.sleep(0.01)
            recorded.append(run.record().seconds)
            raise KeyboardInterrupt
        clock[0] += 100
        arrays = Arrays.mapped(folder)
        validation = made_run.say(np.random.default_rng(0), arrays.labels[task.validation_rows], 0)
        test = np.full((len(arrays.test_images), 10), 0.1, np.float32)
        return FoldResult(task.fold, 1, task.network, task.validation_rows, validation, test, [], 1.0, 1), b"model"

    monkeypatch.setattr(crossval, "train_in_worker", train_in_worker)
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    settings = Settings(load_recipe("quick").changed(folds=3), source="sample", limit=600)
    with pytest.raises(KeyboardInterrupt):
        pipeline.train(settings, Execution(run="mine", jobs=1, submissions=tmp_path, report=False))
    assert recorded == [200]


def test_a_change_of_the_training_code_changes_the_hash_of_its_module_alone(monkeypatch, tmp_path):
    for module in identity.RUN_CODE:
        (tmp_path / module).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / "src" / "digits" / f"{module}.py", tmp_path / f"{module}.py")
    before = identity.code_hashes()
    monkeypatch.setattr(identity, "__file__", str(tmp_path / "runs" / "identity.py"))
    assert identity.code_hashes() == before
    with (tmp_path / "model" / "networks.py").open("a") as file:
        file.write("DROPOUT = 0.3\n")
    assert {module for module, code in identity.code_hashes().items() if code != before[module]} == {"model/networks"}
