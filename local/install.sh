#!/bin/sh
# Sets up .venv (Riskwatch) and .venv-aws (the embedded AWS) in the project's folder. `make install` calls it.
#
# PYTHON names the interpreter to use (3.11 to 3.13); without it python3 is taken where it suits, else the newest of those on the PATH.
set -eu
cd "$(dirname "$0")/.."

UV_VERSION=0.13.9
NEEDED_MB=4000
export UV_PYTHON_DOWNLOADS=never UV_NO_PROGRESS=1

fail() {
    printf 'riskwatch: %s\n' "$@" >&2
    exit 1
}

suits() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1
}

find_python() {
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python}; do
        if suits "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    fail "no Python 3.11, 3.12 or 3.13 found${PYTHON:+ (PYTHON=$PYTHON)}." \
        "Install one (Debian and Ubuntu: apt-get install python3 python3-dev python3-venv), or name it: make install PYTHON=/path/to/python3"
}

find_uv() {
    # pyproject.toml says which versions of uv will do; `uv version` in this folder holds it to that.
    if uv version >/dev/null 2>&1; then
        command -v uv
        return
    fi
    if [ ! -x .uv/bin/uv ]; then
        echo "Installing uv $UV_VERSION into .uv" >&2
        "$python" -m venv .uv >&2 || fail "$python cannot make a virtual environment." \
            "Install its venv module (Debian and Ubuntu: apt-get install python3-venv)."
        .uv/bin/python -m pip install --quiet --disable-pip-version-check "uv==$UV_VERSION" >&2 ||
            fail "uv could not be installed: is a Python package index reachable?"
    fi
    echo "$PWD/.uv/bin/uv"
}

compiles_cxx() {
    echo '#include <vector>' | "${CXX:-c++}" -x c++ -fsyntax-only - 2>/dev/null
}

# One source file of scikit-learn-extra is C++, and a machine with gcc alone has no compiler for it.
provide_cxx() {
    if compiles_cxx; then
        return
    fi
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "No C++ compiler found: installing g++"
        { apt-get install -y -qq g++ || { apt-get update -qq && apt-get install -y -qq g++; }; } >/dev/null 2>&1 || true
        if compiles_cxx; then
            return
        fi
    fi
    echo "No C++ compiler found: fetching one (zig) for this build; a g++ on this machine would be quicker by minutes"
    "$uv" venv --quiet --clear --python "$python" .cxx
    "$uv" pip install --quiet --python .cxx/bin/python ziglang==0.17.1
    printf '#!/bin/sh\nexec "%s" -m ziglang c++ "$@"\n' "$PWD/.cxx/bin/python" > .cxx/bin/c++
    chmod +x .cxx/bin/c++
    CXX="$PWD/.cxx/bin/c++"
    export CXX
}

python=$(find_python)
compiler=${CC:-gcc}
command -v "$compiler" >/dev/null 2>&1 || fail "no C compiler ($compiler) found; scikit-learn-extra is built from source." \
    "Install one (Debian and Ubuntu: apt-get install gcc), or name it: make install CC=clang"
headers=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
[ -f "$headers/Python.h" ] || fail "the headers of $python are missing ($headers/Python.h)." \
    "Install them (Debian and Ubuntu: apt-get install python3-dev)."
free_mb=$(df -Pm . | awk 'NR == 2 { print $4 }')
[ "$free_mb" -ge "$NEEDED_MB" ] || fail "$free_mb MB free in $PWD, $NEEDED_MB MB needed." "Free some space."

uv=$(find_uv)
[ -x .venv/bin/riskwatch ] || provide_cxx
echo "Installing with $("$uv" --version) for $("$python" --version): about 230 packages, one built from source"
"$uv" sync --quiet --locked --compile-bytecode --python "$python"
[ -x .venv-aws/bin/python ] || "$uv" venv --quiet --python .venv/bin/python .venv-aws
rm -rf .cxx
"$uv" pip sync --quiet --require-hashes --compile-bytecode --python .venv-aws/bin/python local/embedded-aws.txt
