from pathlib import Path

from digits.model import backend


def test_bfloat16_is_chosen_only_where_the_hardware_multiplies_it(monkeypatch, tmp_path):
    """A T4 (compute capability 7.5) does not, an A100 (8.0) does; of two GPUs the older one decides."""
    monkeypatch.setattr(backend, "Path", lambda name: tmp_path / Path(name).name)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "nvidia0").touch()
    for answer, precision in [
        ("7.5\n7.5\n", "float32"),
        ("8.0\n", "mixed_bfloat16"),
        ("9.0\n7.5\n", "float32"),
        ("No devices\n", "float32"),
    ]:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\nprintf '{answer}'\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
        assert backend.resolve_precision("auto") == precision
    (tmp_path / "nvidia-smi").unlink()
    assert backend.resolve_precision("auto") == "float32"
    (tmp_path / "nvidia0").unlink()
    (tmp_path / "cpuinfo").write_text("flags: avx2 amx_bf16")
    assert backend.resolve_precision("auto") == "mixed_bfloat16"
    assert backend.resolve_precision("float32") == "float32"
