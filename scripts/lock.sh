#!/usr/bin/env bash
# Renew requirements.lock, the tested versions of all packages of requirements*.txt: scripts/lock.sh [--upgrade]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
command -v uv >/dev/null || { echo "error: uv is needed: pip install uv" >&2; exit 1; }
uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --no-emit-find-links --no-annotate \
  --custom-compile-command "scripts/lock.sh, for Python 3.11 to 3.13 on Linux and macOS" \
  "$@" requirements*.txt --output-file requirements.lock
# What holds for all of these platforms need not stand in every line.
sed -E "s/ (;|and) \(?sys_platform == 'darwin' or sys_platform == 'linux'\)?//; s/ (;|and) python_full_version < '3.14'( and |$)/ ;\2/; s/ ; and / ; /; s/ ;$//" \
  requirements.lock > requirements.lock.new
mv requirements.lock.new requirements.lock
