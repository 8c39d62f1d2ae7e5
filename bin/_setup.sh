# Sourced by bin/backups and bin/test: keeps .venv in the checkout as requirements.lock and pyproject.toml say.
# shellcheck shell=sh
#
# .venv/.ready and .venv/.ready-test say for which checkout and lock the installation is complete.
# .venv/.building lies there while it is not: an installation that was interrupted is begun anew.

venv=$root/.venv
export DO_NOT_TRACK="${DO_NOT_TRACK:-1}"
export PREFECT_SERVER_ANALYTICS_ENABLED="${PREFECT_SERVER_ANALYTICS_ENABLED:-false}"

# Where stdin is closed, the first file that a child opens would become its stdin.
{ : <&0; } 2>/dev/null || exec </dev/null

say() { printf 'backups: %s\n' "$*" >&2; }

wanted() { printf '%s %s' "$root" "$(cat "$root/requirements.lock" "$root/pyproject.toml" | sha256sum)"; }

# is_ready STAMP: whether the installation of that name is complete, and of this checkout and lock.
is_ready() {
    [ -x "$venv/bin/python" ] && [ -r "$venv/$1" ] && [ ! -e "$venv/.building" ] || return 1
    IFS= read -r found <"$venv/$1" || [ -n "$found" ]
    [ "$found" = "$(wanted)" ]
}

# set_up STAMP EXTRA: install what is missing; EXTRA is "" or "[test]". Two at once: the second waits for the first.
set_up() {
    (: >>"$root/.venv.lock") 2>/dev/null || {
        say "cannot set up: $root is not writable for you; run $root/bin/backups once as its owner"
        exit 1
    }
    exec 9>>"$root/.venv.lock"
    flock -n 9 || { say "another set-up is running here, waiting for it …"; flock 9; }
    if ! is_ready "$1"; then
        choose_python
        if command -v uv >/dev/null; then tool=uv; else tool=pip; fi
        [ "$tool" = uv ] || "$python" -c 'from ensurepip import bootstrap' 2>/dev/null || install_venv_package
        say "setting up $venv with $tool and Python $version ($([ "$tool" = uv ] && echo "seconds" || echo "a minute or two")) …"
        build "$2" >"$root/.venv.log" 2>&1 </dev/null || {
            tail -n 25 "$root/.venv.log" >&2
            say "the set-up failed; all of its output is in $root/.venv.log. Run the same command to try again"
            exit 1
        }
        rm -f "$root/.venv.log"
        [ "$1" = .ready ] || wanted >"$venv/$1"
        wanted >"$venv/.ready"
        rm -f "$venv/.building"
    fi
    exec 9>&-
}

# The first Python that fits; by its own path, since an interpreter's shim or link may mean another one tomorrow.
choose_python() {
    for python in python3 python3.13 python3.12 python3.11; do
        python=$("$python" -c '
import os, sys
if not (3, 11) <= sys.version_info < (3, 14): sys.exit(1)
print(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))' 2>/dev/null) || continue
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        return
    done
    say "needs Python 3.11, 3.12 or 3.13 as python3 (or python3.11, …) on PATH; found: $(python3 --version 2>&1)"
    exit 1
}

# Debian and Ubuntu ship a Python that cannot make a venv until this package is there.
install_venv_package() {
    package=python$version-venv
    if as_root=$(root_prefix) && command -v apt-get >/dev/null; then
        say "installing the system package $package, which Python needs to make a venv …"
        apt_install "$package" && return
    fi
    say "Python $version cannot make a venv here. Install what is missing, then run the same command again:"
    say "  sudo apt-get install -y $package"
    exit 1
}

# Prints what makes a command run as root: nothing, or sudo. Fails where neither goes without asking.
root_prefix() {
    [ "$(id -u)" -eq 0 ] || { sudo -n true 2>/dev/null && echo "sudo -n"; }
}

# apt_install PACKAGE...: quietly; the package lists are fetched only when the install fails without.
apt_install() {
    # shellcheck disable=SC2086  # as_root is empty, or words
    for attempt in 1 2; do
        [ "$attempt" = 1 ] || $as_root apt-get update -q >>"$root/.venv.log" 2>&1 </dev/null || true
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" \
            >>"$root/.venv.log" 2>&1 </dev/null && return
    done
    tail -n 15 "$root/.venv.log" >&2
    return 1
}

# Every line says what to do when it fails: `set -e` does not hold in a function that is called before `||`.
build() {
    if [ -e "$venv/.building" ] || ! fits "$venv/bin/python" 2>/dev/null || moved; then
        rm -rf "$venv" || return
    fi
    mkdir -p "$venv" && : >"$venv/.building" && rm -f "$venv/.ready" "$venv/.ready-test" || return
    if [ "$tool" = uv ]; then
        [ -e "$venv/pyvenv.cfg" ] || uv venv --allow-existing --python "$python" "$venv" || return
        uv pip install --python "$venv/bin/python" --compile-bytecode \
            -c "$root/requirements.lock" -e "$root$1" || return
    else
        "$venv/bin/python" -m pip --version 2>/dev/null || "$python" -m venv "$venv" || return
        "$venv/bin/python" -m pip install --no-input --disable-pip-version-check \
            -c "$root/requirements.lock" -e "$root$1" || return
    fi
    # Both only make the first start faster.
    (cd "$root" && "$venv/bin/python" -m compileall -q vault blocks tasks flows deployments cli) || :
    (cd "$root" && "$venv/bin/python" -c "from cli.template import make; make()") || :
}

fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))'; }

# A venv holds absolute paths: one that came here with a copied or renamed checkout is of no use.
moved() { [ -e "$venv/.ready" ] && ! grep -qF "$root " "$venv/.ready"; }
