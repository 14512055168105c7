"""Print messages that name a command, and which one that is, as JSON; of the kit that PYTHONPATH names.

The names of its folder, its runs and the user's files are in need of quotes, and its folder of runs is a link.
"""

import contextlib
import io
import json
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import train
from digits import config
from digits.config import Execution, load_recipe
from digits.console import KitError
from digits.data import dataset
from digits.data.competition import DIGIT_RECOGNIZER, find_competition
from digits.data.dataset import DataSummary
from digits.data.preparation import load_extra
from digits.files import SUBMISSIONS, submissions_flag
from digits.inference.predictor import newest_run
from digits.kaggle import kernel
from digits.kaggle.submit import examine
from digits.report import summary
from digits.runs.record import FoldScore, Record
from digits.runs.store import Run, find_run, new_run, open_run
from digits.training.plan import Plan
from made_run import SCORE, made_record

ODD = "Ä 'b' $c"
"""A name that a shell reads as several words, or as another, where it is not quoted."""
KANNADA = find_competition("kannada-mnist")


def message_of(function, *arguments) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            returned = function(*arguments)
        except KitError as error:
            return str(error)
    return returned if isinstance(returned, str) else printed.getvalue()


def run_of(folder: Path) -> Run:
    folder.mkdir(parents=True)
    run = Run(folder)
    folds = [FoldScore(**vars(SCORE), fold=1, member=1, network="compact", epochs=1, seconds=1.0)]
    data = DataSummary([], [4200] * 10, "the competition's files", competition="digit-recognizer")
    run.write_record(made_record(run=run.name, folds=folds, data=data))
    return run


def resumed(name: str, **execution) -> str:
    unused = dict.fromkeys(("before", "record", "recipe", "dataset", "train", "tasks", "slots", "started"))
    plan = Plan(**unused, run=Run(SUBMISSIONS / name), execution=Execution(run=name, **execution))
    return f"Resume with: {plan.resume_command}"


def messages(own: Path):
    """Yield messages, and the words of the command that each names; `own` is a folder of the user's."""
    yield message_of(newest_run), ["src/train.py", "--recipe", "quick"]
    yield message_of(find_run, "none"), ["src/train.py"]
    run_of(SUBMISSIONS / "done")
    elsewhere = run_of(own / ODD)
    yield message_of(Run.models, find_run("done")), ["src/train.py", "--run", "done"]
    yield message_of(Run.models, elsewhere), ["src/train.py", "--from-run", str(own / ODD)]
    yield summary.of_run(find_run("done")), ["scripts/submit.sh", "done"]
    yield summary.of_run(elsewhere), ["scripts/submit.sh", str(own / ODD)]

    begun = new_run("my recipe 'Ä'", None)
    begun.write_record(made_record(finished=False, run=begun.name))
    yield message_of(begun.finished_record), ["src/train.py", "--run", begun.name]
    identity = Record.read(begun.folder / "run.json").identity | {"seed": 7}
    yield message_of(open_run, identity, begun.name), ["src/train.py", "--run", begun.name]
    flags = {"out": own / ODD / "o.csv", "jobs": 2, "cluster": "tcp://host:1", "minutes": 3, "report": False}
    words = ["--out", str(own / ODD / "o.csv"), "--jobs", "2", "--cluster", "tcp://host:1", "--minutes", "3"]
    yield resumed("mine", **flags), ["src/train.py", "--run", "mine", *words, "--no-report"]
    words = ["--from-run", str(own / ODD / "run.json"), "--tensorboard"]
    yield resumed("mine", from_run=words[1], tensorboard=True), ["src/train.py", "--run", "mine", *words]

    for number in range(6):
        run_of(SUBMISSIONS / f"run-{number}")
    yield message_of(find_run, "none"), ["src/report.py"]
    yield message_of(config.set_values, load_recipe("quick"), ["x=1"]), ["src/train.py", "--list-settings"]
    recipe = str(own / f"{ODD}.toml")
    yield message_of(train.main, ["--epochs", "3", "--save-recipe", recipe]), ["src/train.py", "--recipe", recipe]
    yield message_of(examine, own / "none.csv", SUBMISSIONS, [], DIGIT_RECOGNIZER), ["src/train.py"]
    yield message_of(load_extra, own / "none", ("0", "1"), None, None), ["src/draw.py"]

    data = own / f"{ODD} data"
    data.mkdir()
    yield message_of(dataset.load, "kaggle", data), ["scripts/download.sh", "--data-dir", str(data)]
    with zipfile.ZipFile(own / f"{ODD}.zip", "w") as archive:
        archive.writestr("train.csv", "")
    zipped = own / f"{ODD}.zip"
    yield message_of(dataset.load, "kaggle", zipped), ["scripts/download.sh", "--zip", str(zipped)]

    kaggle = SimpleNamespace(competition=KANNADA, flags=lambda folder: KANNADA.flag + submissions_flag(folder))
    competition = ["--competition", KANNADA.slug]
    pushed = kernel.Push("me/digits", 3)
    fetch = ["scripts/push_kernel.sh", "--fetch", "me/digits/3", *competition]
    yield kernel.fetch_later(kaggle, pushed, SUBMISSIONS), fetch
    yield kernel.fetch_later(kaggle, pushed, own / ODD), [*fetch, "--submissions-dir", str(own / ODD)]
    submit = ["scripts/submit.sh", "--notebook", "me/digits/3", *competition]
    command = kernel.submit_command(kaggle, pushed, SUBMISSIONS / "x" / "submission.csv")
    yield f"Submit: {command}", submit


if __name__ == "__main__":
    print(json.dumps(list(messages(Path(sys.argv[1])))))
