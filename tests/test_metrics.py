"""Each metric's value, standard error and paired test; the form of a submission, from its sample to its cells."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from digits.config import Metric
from digits.console import BadInput
from digits.data.competition import Form, find_competition
from digits.data.dataset import DataFile, DataSummary
from digits.data.submission import (
    SubmissionFile,
    SubmissionForm,
    content_hash,
    parse_submission,
    read_submission,
    write_submission,
)
from digits.kaggle.ledger import read_ledger, record
from digits.kaggle.submit import examine
from digits.runs import checks, metrics
from digits.runs.record import RunSettings
from digits.runs.store import Run
from made_run import SCORE, made_record

AUC, LOG_LOSS, MACRO_F1, ACCURACY = Metric.AUC, Metric.LOG_LOSS, Metric.MACRO_F1, Metric.ACCURACY


def made(seed, classes=2, rows=400, skill=1.5):
    """Probabilities (n, classes), with ties, of rows of unequally frequent classes, and their labels."""
    random = np.random.default_rng(seed)
    labels = random.choice(classes, rows, p=np.arange(1, classes + 1) / np.arange(1, classes + 1).sum())
    scores = random.normal(size=(rows, classes)) + skill * np.eye(classes)[labels]
    powers = np.exp(scores.round(1))
    return powers / powers.sum(axis=1, keepdims=True), labels


def of_sklearn(metric, probabilities, labels):
    if metric is AUC:
        if probabilities.shape[1] == 2:
            return roc_auc_score(labels, probabilities[:, 1])
        return roc_auc_score(labels, probabilities, multi_class="ovr")
    if metric is MACRO_F1:
        return f1_score(labels, probabilities.argmax(axis=1), average="macro")
    return metrics.log_loss(probabilities, labels)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("metric", [AUC, MACRO_F1, LOG_LOSS])
def test_a_metric_is_scikit_learn_s_and_its_errors_are_those_of_the_bootstrap(metric, classes):
    (first, labels), random = made(1, classes), np.random.default_rng(0)
    second = 0.7 * first + 0.3 * made(2, classes)[0]
    score = metrics.score(first, labels, metric)
    assert score.value == pytest.approx(of_sklearn(metric, first, labels))
    drawn = [random.integers(0, len(labels), len(labels)) for _ in range(400)]
    values = [[metrics.influences(each[rows], labels[rows], metric)[0] for rows in drawn] for each in (first, second)]
    assert score.standard_error == pytest.approx(np.std(values[0]), rel=0.15)
    found = metrics.compare(first, second, labels, metric)
    assert found.difference == pytest.approx(of_sklearn(metric, second, labels) - score.value)
    assert found.standard_error == pytest.approx(np.std(np.subtract(values[1], values[0])), rel=0.15)
    assert metrics.compare(first, first, labels, metric).p_value == 1


def test_the_log_loss_is_better_where_it_is_lower_and_its_expected_score_has_no_upper_bound():
    (good, labels), poor = made(1, skill=3), made(2)[0]
    scores = [metrics.score(each, labels, LOG_LOSS) for each in (good, poor)]
    assert scores[0].value < scores[1].value
    assert scores[0].merit > scores[1].merit
    assert not metrics.compare(good, poor, labels, LOG_LOSS).is_second_better
    assert metrics.compare(poor, good, labels, LOG_LOSS).is_second_better
    assert metrics.expected_score(scores[1], 10).high > scores[1].value
    assert metrics.expected_score(metrics.score(good, labels, AUC), 2).high == 1
    assert metrics.score(good, np.ones(400, int), AUC).value == 0.5, "one class alone says nothing"


def test_accuracy_counts_the_rows_whose_largest_probability_is_the_label_and_its_error_is_the_binomial_one():
    probabilities = np.eye(10, dtype=np.float32)[[1, 2, 3, 4]]
    score = metrics.score(probabilities, np.array([1, 2, 3, 9]))
    assert (score.accuracy, score.wrong, score.rows) == (0.75, 1, 4)
    labels = np.arange(10_000) % 10
    answers = np.where(np.arange(10_000) < 25, labels + 1, labels) % 10
    assert metrics.score(np.eye(10)[answers], labels).standard_error == pytest.approx(0.0004994, abs=1e-6)


@pytest.mark.parametrize("right", [True, False])
def test_without_an_error_or_without_a_right_answer_the_standard_error_is_not_zero(right):
    """Ninety right answers do not show that the next is right: half an error, or half a right answer, is counted."""
    labels = np.arange(90) % 10
    score = metrics.score(np.eye(10)[labels if right else (labels + 1) % 10], labels)
    assert score.accuracy == right
    assert score.standard_error == pytest.approx(0.0078, abs=1e-4)
    expected = metrics.expected_score(score, 90)
    assert 0 < expected.high - expected.low < 0.03


def test_the_calibrated_log_loss_does_not_mind_how_modest_a_network_is():
    random = np.random.default_rng(0)
    scores = random.normal(size=(2000, 10)) * 2
    labels = np.array([random.choice(10, p=np.exp(row) / np.exp(row).sum()) for row in scores])

    def said(temperature):
        powers = np.exp(scores / temperature)
        return powers / powers.sum(axis=1, keepdims=True)

    modest, right, boastful = (metrics.calibrated_log_loss(said(temperature), labels) for temperature in (2.5, 1, 0.5))
    assert modest == pytest.approx(right, abs=1e-4)
    assert boastful == pytest.approx(right, abs=1e-4)
    assert right == pytest.approx(metrics.log_loss(said(1), labels), abs=2e-3)
    assert metrics.log_loss(said(2.5), labels) > right + 0.05
    assert metrics.log_loss(np.eye(10)[[0]], np.array([1])) == pytest.approx(-np.log(1e-7)), "bounded"


def test_the_expected_score_is_less_sure_than_the_out_of_fold_accuracy():
    expected = metrics.expected_score(SCORE, 28_000)
    assert expected.low < expected.middle == SCORE.accuracy < expected.high
    assert expected.high - expected.low > 2 * 1.96 * SCORE.standard_error


def test_mcnemar_looks_only_at_rows_on_which_one_of_two_is_right():
    labels = np.zeros(100, int)
    first, second = np.zeros(100, int), np.zeros(100, int)
    first[:3] = 1
    second[3:18] = 1
    first[50] = second[50] = 5
    found = metrics.compare(np.eye(10)[first], np.eye(10)[second], labels, Metric.ACCURACY)
    assert (found.only_first_right, found.only_second_right, found.both_wrong) == (15, 3, 1)
    assert found.p_value == pytest.approx(0.00754, abs=1e-4)
    assert metrics.compare(np.eye(10), np.eye(10), np.arange(10), Metric.ACCURACY).p_value == 1.0


SAMPLES = {
    "labels": (("id", "label"), {"a"}, ("a", "b"), None, ACCURACY, ()),
    "labels are 0 and nothing else is said": (("id", "y"), {"0"}, ("0", "1"), None, ACCURACY, ()),
    "labels are 0, and the metric takes probabilities": (("id", "y"), {"0"}, ("0", "1"), AUC, AUC, (1,)),
    "a share": (("id", "has_it"), {"0.5"}, ("0", "1"), None, AUC, (1,)),
    "a share, with a metric of labels": (("id", "has_it"), {"0.5"}, ("0", "1"), ACCURACY, AUC, (1,)),
    "a share of the class in the column's name": (("id", "is_cat"), {"0.5"}, ("cat", "dog"), None, AUC, (0,)),
    "three classes in a column": (("id", "label"), {"0"}, ("0", "1", "2"), AUC, ACCURACY, ()),
    "a column a class": (("id", "b", "a"), {"0"}, ("a", "b"), None, LOG_LOSS, (1, 0)),
    "columns with a prefix": (("id", "p_2", "p_0", "p_1"), {"0.3"}, ("0", "1", "2"), None, LOG_LOSS, (2, 0, 1)),
}


@pytest.mark.parametrize(
    ("columns", "examples", "classes", "asked", "usual", "probability_of"), SAMPLES.values(), ids=SAMPLES.keys()
)
def test_a_sample_says_the_form_and_the_usual_metric(columns, examples, classes, asked, usual, probability_of):
    form = SubmissionForm(columns, examples=frozenset(examples)).matched(classes, asked)
    assert (form.usual_metric, form.probability_of, form.note) == (usual, probability_of, "")


def test_a_column_whose_class_is_not_plain_is_said_and_one_of_no_class_refused():
    form = SubmissionForm(("id", "label"), examples=frozenset({"0.5"})).matched(("cat", "dog"), None)
    assert form.probability_of == (1,)
    assert "'label' is taken as the probability of class 'dog'" in form.note
    with pytest.raises(BadInput, match=r"expected a column for each class \(a, b, c\), found a, b, x"):
        SubmissionForm(("id", "a", "b", "x")).matched(("a", "b", "c"), None)


IDS = ("b.png", "a.png", "c.png")
ONE = SubmissionForm(("id", "p"), ("0", "1"), IDS, probability_of=(1,))
EACH = SubmissionForm(("id", "z", "x", "y"), ("x", "y", "z"), IDS, probability_of=(2, 0, 1))


@pytest.mark.parametrize("form", [ONE, EACH], ids=["one column", "a column a class"])
def test_probabilities_are_written_in_the_sample_s_order_without_ties_and_read_back_the_same(tmp_path, form):
    classes = len(form.classes)
    probabilities = np.full((3, classes), 3e-7, np.float32) * np.arange(1, 4, dtype=np.float32)[:, None]
    probabilities[:, 1] = 1 - (classes - 1) * probabilities[:, 0]
    path = tmp_path / "submission.csv"
    written = write_submission(path, np.array(sorted(IDS)), probabilities, form)
    lines = path.read_text().splitlines()
    assert lines[0] == ",".join(form.columns)
    assert [line.split(",")[0] for line in lines[1:]] == list(IDS)
    read = read_submission(path, 3, form)
    np.testing.assert_allclose(read[[1, 0, 2]], probabilities, rtol=0, atol=1e-7)
    assert content_hash(read) == content_hash(written)
    assert len(np.unique(read[:, 1])) == 3
    assert content_hash(write_submission(path, np.array(IDS), read, form)) == content_hash(read)


OUT_OF_RANGE = "expected a probability from 0 to 1 as p, found"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("id,p\nb.png,0.5\na.png,nan\n", f"line 3: {OUT_OF_RANGE} 'nan'", id="NaN"),
        pytest.param("id,p\nb.png,1.5\n", f"line 2: {OUT_OF_RANGE} '1.5'", id="above 1"),
        pytest.param("id,z,x,y\nb.png,.5,.4,.2\n", "line 2: .*whose sum is 1.*found the sum 1.1", id="sum"),
        pytest.param("id,z,y\nb.png,.5,.5\n", "line 1: expected the header 'id,z,x,y', found 'id,z,y'", id="columns"),
        pytest.param("id,p\nb.png,.5\na.png,.5\n", "expected the 3 ids .*; missing: c.png", id="an id less"),
        pytest.param("id,p\nb.png,.5\na.png,.5\nc.png,0\nd,1\n", "missing: none; others found: d", id="an id more"),
        pytest.param("id,p\nb.png,.5\nb.png,.5\n", "line 3: .* each id once, found b.png again", id="an id twice"),
    ],
)
def test_probabilities_that_kaggle_would_refuse_are_refused_to_the_cell(text, message):
    with pytest.raises(BadInput, match=message):
        parse_submission(text.encode(), EACH if "z" in text else ONE)


def test_submitting_knows_a_run_of_probabilities_and_its_metric_by_the_written_values(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "sample_submission.csv").write_text("id,p\n" + "".join(f"{name},0.5\n" for name in IDS))
    folder = tmp_path / "submissions" / "made"
    folder.mkdir(parents=True)
    probabilities = np.array([[0.2, 0.8], [0.7, 0.3], [0.6, 0.4]], np.float32)
    sha256 = content_hash(write_submission(folder / "submission.csv", np.array(IDS), probabilities, ONE))
    files = [DataFile("train.csv", 400, "12", Form.UNVERIFIED)]
    Run(folder).write_record(
        made_record(
            settings=RunSettings(folds=5, members=1, data_dir=str(data)),
            data=DataSummary(files, [100, 300], "", competition="xray", classes=["0", "1"], metric=AUC),
            out_of_fold=metrics.score(*made(1), AUC),
            submission=SubmissionFile("submission.csv", None, 3, sha256),
        )
    )
    candidate = examine(folder / "submission.csv", folder.parent, [], find_competition("xray"))
    form = replace(ONE, examples=frozenset({"0.5"}))
    assert (candidate.entry.run, candidate.entry.metric, candidate.form) == ("made", AUC, form)
    assert "out-of-fold AUC 0." in candidate.title
    record(folder.parent / "ledger-xray.csv", candidate.entry)
    assert read_ledger(folder.parent / "ledger-xray.csv")[0].metric is AUC


def test_a_rare_class_may_be_missing_among_the_predictions_and_an_unlearned_one_not():
    sure, counts = np.eye(3)[np.arange(300) % 2], np.array([490, 500, 10])
    assert checks.check_not_constant(sure, counts, ACCURACY).passed
    assert not checks.check_not_constant(sure, np.array([400, 400, 200]), ACCURACY).passed
    assert checks.check_not_constant(made(1)[0], counts[1:], AUC).passed
    assert not checks.check_not_constant(np.full((300, 2), 0.5), counts[1:], AUC).passed


def test_a_fold_of_few_images_may_differ_more_and_a_hard_task_has_a_low_chance():
    accuracies = {"fold-1": 0.90, "fold-2": 0.95, "fold-3": 0.96}
    assert not checks.check_learned(accuracies).passed
    assert checks.check_learned(accuracies, rows=200).passed
    assert not checks.check_learned({"fold-1": 0.3, "fold-2": 0.3}).passed
    assert checks.check_learned({"fold-1": 0.3, "fold-2": 0.3}, largest_share=0.02).passed
