import pytest

from digits.model import backend


@pytest.fixture
def driver(monkeypatch, tmp_path):
    """Return a function that sets what the NVIDIA driver answers, and how many GPUs the backend finds."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(backend, "multiplies_bfloat16", lambda: False)

    def change(answer, found=1):
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\nprintf '{answer}'\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
        monkeypatch.setattr(backend, "_COUNT_GPUS", dict.fromkeys(backend.BACKENDS, f"print({found})"))
        backend._finds_gpus.cache_clear()

    yield change
    backend._finds_gpus.cache_clear()


@pytest.mark.parametrize(
    ("answer", "precision"),
    [
        pytest.param("7.5\\n7.5\\n", "float32", id="two T4"),
        pytest.param("8.0\\n", "mixed_bfloat16", id="an A100"),
        pytest.param("9.0\\n7.5\\n", "float32", id="the older of two decides"),
        pytest.param("No devices\\n", "float32", id="none"),
    ],
)
def test_bfloat16_is_chosen_only_on_a_gpu_that_multiplies_it(driver, answer, precision):
    driver(answer)
    assert backend.resolve_precision("auto") == precision


def test_bfloat16_is_chosen_on_a_cpu_that_multiplies_it(driver, monkeypatch):
    driver("")
    monkeypatch.setattr(backend, "multiplies_bfloat16", lambda: True)
    assert backend.resolve_precision("auto") == "mixed_bfloat16"
    assert backend.resolve_precision("float32") == "float32"


def test_a_gpu_that_the_backend_as_installed_cannot_use_is_named_and_not_counted(driver, capsys):
    """A laptop with an NVIDIA GPU and the packages of requirements.txt, which compute on the processor."""
    driver("8.6\\n", found=0)
    assert backend.usable_gpus() == {}
    assert backend.resolve_precision("auto") == "float32"
    assert capsys.readouterr().out.count("Note: this machine has an NVIDIA GPU that tensorflow cannot use") == 1


def test_cuda_visible_devices_chooses_among_gpus_and_makes_none(driver, monkeypatch):
    driver("8.0\\n7.5\\n9.0\\n7.5\\n")
    assert backend.usable_gpus() == {"0": 8.0, "1": 7.5, "2": 9.0, "3": 7.5}
    for value, gpus in (("1,2", {"1": 7.5, "2": 9.0}), ("GPU-8a1b", {"GPU-8a1b": 7.5}), ("", {}), ("-1", {})):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
        assert backend.usable_gpus() == gpus
    driver("")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert backend.usable_gpus() == {}


def test_two_threads_without_a_gpu_compute_an_op_each(driver, monkeypatch):
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "KERAS_BACKEND"):
        monkeypatch.setenv(name, "tensorflow" if name == "KERAS_BACKEND" else "0")
    monkeypatch.setattr(backend, "compute_capabilities", list)
    backend.prepare_process(2, deterministic=False)
    assert backend.computes_halves()
    backend.prepare_process(1, deterministic=False)
    assert not backend.computes_halves()
    monkeypatch.setenv("DIGITS_WHOLE_BATCHES", "1")
    backend.prepare_process(2, deterministic=False)
    assert not backend.computes_halves()
    monkeypatch.delenv("DIGITS_WHOLE_BATCHES")
    monkeypatch.setattr(backend, "compute_capabilities", lambda: [8.0])
    backend.prepare_process(2, deterministic=False)
    assert not backend.computes_halves()


def test_hidden_modules_look_uninstalled_and_come_back(monkeypatch):
    monkeypatch.delitem(backend.sys.modules, "this", raising=False)
    with backend.without_modules("this", "os"):
        with pytest.raises(ImportError):
            import this  # noqa: F401
        import os  # noqa: F401 loaded before
    assert "this" not in backend.sys.modules
