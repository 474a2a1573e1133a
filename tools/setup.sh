#!/bin/sh
# tools/setup.sh EXTRAS: create .venv once, and install the project into it, editable, with EXTRAS.
# It needs Python 3.11 or later, and reports a missing requirement in one sentence.
set -eu
cd "$(dirname "$0")/.."
extras=$1

print_status() { printf '%s\n' "$*" >&2; }

find_python() {
    for name in python3.11 python3.12 python3.13 python3 python; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    print_status "Python 3.11 or later was not found: install python3 (on Debian: apt-get install python3)."
    exit 1
}

# On Debian, python3 needs the package python3-venv to create a virtual environment.
install_venv_package() {
    command -v apt-get >/dev/null 2>&1 || return 1
    if [ "$(id -u)" = 0 ]; then
        as_root=
    elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
        as_root="sudo -n"
    else
        return 1
    fi
    print_status "installing the Debian package python3-venv"
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q python3-venv >&2 ||
        { $as_root apt-get update -q >&2 &&
            $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q python3-venv >&2; }
}

make_environment() {
    python=$(find_python)
    print_status "creating .venv with $("$python" --version)"
    rm -rf .venv
    "$python" -m venv .venv >/dev/null 2>&1 && return
    rm -rf .venv
    if install_venv_package && "$python" -m venv .venv; then
        return
    fi
    rm -rf .venv
    print_status "$python cannot create a virtual environment: install python3-venv (apt-get install python3-venv)."
    exit 1
}

mkdir -p .cache
if command -v flock >/dev/null 2>&1; then
    exec 9>.cache/setup.lock
    flock 9
fi
.venv/bin/python -m pip --version >/dev/null 2>&1 || make_environment
print_status "installing the project with [$extras] into .venv"
JOURNAL_COMPILED=0 .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[$extras]"
