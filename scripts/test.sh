#!/usr/bin/env bash
# All tests: the kit's environment with the test tools, ruff, mypy, and pytest, which gets the flags.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

environment requirements-dev.txt
cd "$kit"
"$python" -m ruff check .
"$python" -m ruff format --check .
"$python" -m mypy
exec "$python" -m pytest "$@"
