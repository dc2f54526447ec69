#!/bin/bash
# house pipeline on a checkout (cwd): names, then modules
set -e
H=$(dirname "$(realpath "$0")")
python3 $H/fast_rename.py . $H/symbols.spec | grep -v UNUSED || true
python3 $H/move_merge.py . $H/modules.spec | grep -v DOC || true
.venv/bin/ruff check --fix -q . >/dev/null || true
.venv/bin/ruff format -q .
.venv/bin/ruff check . --output-format concise | grep -v E501 | tail -40 || true
