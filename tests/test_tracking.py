import numpy as np
import pytest

from digits.console import BadInput
from digits.report.tensorboard import write_tensorboard


def read(folder):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = event_accumulator.EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    return events


def test_curves_and_settings_can_be_read_back(runs, sample):
    pytest.importorskip("tensorboardX")
    run = runs[0]
    write_tensorboard(run, sample)
    before = len(list(run.folder.rglob("events.out.tfevents.*")))
    folder = write_tensorboard(run, sample)  # Again: it replaces what was there.
    assert len(list(run.folder.rglob("events.out.tfevents.*"))) == before
    result = run.fold_results()[0]
    curve = read(folder / result.label).Scalars("accuracy/training")
    assert [event.step for event in curve] == [epoch["epoch"] for epoch in result.history]
    assert np.allclose([event.value for event in curve], [epoch["accuracy"] for epoch in result.history])
    assert len(read(folder / result.label).Scalars("accuracy/held_out")) == 3
    summary = read(folder / "run")
    assert summary.Scalars("accuracy/out_of_fold")[0].value == pytest.approx(run.finished_record().out_of_fold.accuracy)
    assert any("hparams" in name for name in summary.summary_metadata)


def test_without_tensorboardx_the_error_names_what_to_install(runs, sample, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BadInput, match="requirements-tensorboard"):
        write_tensorboard(runs[0], sample)
