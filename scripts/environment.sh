# Sourced by the other scripts: makes the kit's virtual environment, once for each state of a requirements file.

kit=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python="$kit/.venv/bin/python"

# environment FILE: install the packages of FILE into .venv, unless that has been done.
environment() {
  local requirements="$kit/$1" wanted stamp="$kit/.venv/.installed-$1"
  if [ ! -x "$python" ]; then
    local base
    base=$(suitable_python) || return 2
    echo "Making the virtual environment .venv with $("$base" --version) ..."
    "$base" -m venv "$kit/.venv" || {
      echo "error: no virtual environment could be made. On Debian and Ubuntu: sudo apt install python3-venv" >&2
      return 1
    }
  fi
  wanted=$(cat "$kit"/requirements*.txt | cksum)
  if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "Installing the packages of $1 (about 2 GB on disk, some minutes the first time) ..."
    "$python" -m pip install --quiet --disable-pip-version-check -r "$requirements" || {
      echo "error: pip could not install $1; its message stands above. The same command goes on from here." >&2
      return 1
    }
    echo "$wanted" > "$stamp"
  fi
}

# suitable_python: print a Python of at least 3.11.
suitable_python() {
  local candidate
  for candidate in python3 python3.13 python3.12 python3.11 python; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  echo "error: Python 3.11 or newer is needed; found $(python3 --version 2>&1 || echo none). See python.org/downloads" >&2
  return 2
}
