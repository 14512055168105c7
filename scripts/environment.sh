# Sourced by the other scripts: makes the kit's virtual environment, once for each state of the requirements.

kit=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python="$kit/.venv/bin/python"

# environment FILE: install the packages of FILE into .venv in the tested versions of requirements.lock, unless that has been done.
environment() {
  local wanted stamp="$kit/.venv/.installed-$1"
  # Also where an earlier attempt was interrupted, or failed for want of pip.
  if [ ! -x "$python" ] || ! { command -v uv || "$python" -m pip --version; } >/dev/null 2>&1; then
    local base
    base=$(suitable_python) || return 2
    echo "Making the virtual environment .venv with $("$base" --version) ..."
    "$base" -m venv --clear "$kit/.venv" || {
      echo "error: no virtual environment could be made. On Debian and Ubuntu: sudo apt install python3-venv" >&2
      return 1
    }
  fi
  wanted=$(cat "$kit"/requirements*.txt "$kit/requirements.lock" | cksum)
  if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "Installing the packages of $1 (about 2 GB on disk, some minutes the first time) ..."
    install_packages -r "$kit/$1" -c "$kit/requirements.lock" || {
      echo "error: pip could not install $1; its message stands above. The same command resumes." >&2
      return 1
    }
    echo "$wanted" > "$stamp"
  fi
}

# install_packages ARGUMENT…: with uv where there is one, which is faster; else, or where uv fails, with pip. A terminal
# shows what they do.
install_packages() {
  local quiet=--quiet
  [ ! -t 1 ] || quiet=
  if command -v uv >/dev/null && uv pip install $quiet --python "$python" "$@"; then return; fi
  "$python" -m pip install $quiet --disable-pip-version-check "$@"
}

# suitable_python: print a Python for which there is TensorFlow.
suitable_python() {
  local candidate
  for candidate in python3 python3.13 python3.12 python3.11 python; do
    "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || continue
    if [ "$(uname -s)" = Darwin ] && [ "$("$candidate" -c 'import platform; print(platform.machine())')" = x86_64 ]; then
      echo "error: TensorFlow has no packages for Python on Intel Macs. On Apple silicon use an arm64 Python;" \
        "on an Intel Mac a container (.devcontainer/), Kaggle or Colab (docs/gpu.md)" >&2
      return 2
    fi
    command -v "$candidate"
    return
  done
  echo "error: Python 3.11, 3.12 or 3.13 is needed; found $(python3 --version 2>&1 || echo none)." \
    "Install one from python.org/downloads, or with: uv python install 3.13" >&2
  return 2
}
