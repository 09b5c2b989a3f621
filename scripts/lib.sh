# Shared by the scripts in this folder: sourced, not run.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

need_root() { [ "$(id -u)" = 0 ] || die "run me as root: namespaces and packet sockets need it"; }

# need_packages NAME...: installs the Debian packages that are missing. Their services do not start: a policy-rc.d that
# refuses stands in the way while apt runs.
need_packages() {
    local missing=() name policy=/usr/sbin/policy-rc.d ours=
    for name in "$@"; do
        dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q 'install ok installed' || missing+=("$name")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "installing ${missing[*]}"
    need_root
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' > "$policy"
        chmod +x "$policy"
        ours=yes
    fi
    local rc=0
    { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" > /dev/null; } || rc=$?
    [ -z "$ours" ] || rm -f "$policy"
    [ $rc = 0 ] || die "apt could not install: ${missing[*]}"
}

# need_python NAME...: installs what is missing of these packages of Python's package index in target/python.
need_python() {
    local home=$top/target/python name
    [ -x "$home/bin/python" ] || /usr/bin/python3 -m venv "$home"
    for name in "$@"; do
        "$home/bin/python" -c "import $name" 2>/dev/null && continue
        say "installing $name for Python"
        "$home/bin/python" -m pip install --quiet --disable-pip-version-check "$name" || die "pip could not install $name"
    done
}

need_rust() { command -v cargo > /dev/null || die "Rust is missing: install the stable toolchain with rustup"; }
