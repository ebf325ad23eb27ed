# What the install scripts of the testbed share. They set `part`, the name they go by in messages, and source this file.

cache=${MICROSCALER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/microscaler}
case "$cache" in /*) ;; *) cache=$PWD/$cache ;; esac

say() { echo "$part/install: $*" >&2; }
fail() { say "$*"; exit 1; }

hash_of() { sha256sum "$@" | sha256sum | cut -c1-12; }

# ---- locks ----------------------------------------------------------------------------------------------------------------------

# One run of this part at a time from here on, until this script ends.
lock() {
  mkdir -p "$cache"
  exec 9>"$cache/$part.lock"
  flock 9
}

# Builds go there, and are renamed when they are whole; removed when this script ends.
make_work_directory() {
  work=$(mktemp -d "$cache/.making-XXXXXX")
  trap 'rm -rf "$work"' EXIT
}

# ---- Debian packages ------------------------------------------------------------------------------------------------------------

missing_packages() {
  local package
  for package in "$@"; do
    # Newer releases call libapr1 libapr1t64.
    grep -qxF -e "$package" -e "${package}t64" <<<"$installed" || echo "$package"
  done
}

# All packages that are wanted now and not installed.
need() {
  local installed missing
  command -v dpkg-query >/dev/null || fail "needs Debian or Ubuntu (no dpkg-query here)"
  installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p')
  missing=$(missing_packages "$@")
  [ -z "$missing" ] && return
  mkdir -p "$cache"
  ( # apt-get does not wait for another one
    flock 8
    install_packages $missing
  ) 8>"$cache/apt.lock"
}

# RUNLEVEL: what is a service, too, is not started.
install_packages() {
  local as_root=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || fail "please install as root: apt-get install $*"
    as_root=(sudo)
  fi
  say "installing Debian packages: $*"
  {
    "${as_root[@]}" apt-get update -qq &&
      "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "$@"
  } >&2 </dev/null || fail "apt-get failed; please install as root: apt-get install $*"
}

# ---- the testbed's own programs -------------------------------------------------------------------------------------------------

need_cargo() { command -v cargo >/dev/null || fail "needs cargo (Rust)"; }

# Builds a program of this crate into a directory. It gets a target directory of its own, because the caller may be a test under
# cargo, and is a static binary, because some are started once per task.
make_rust_program() { # NAME DIRECTORY
  local host
  host=$(rustc -vV | sed -n 's/^host: //p')
  ( # Cargo's own lock ends before the copy.
    flock 8
    unset CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET RUSTC_WRAPPER RUSTC_WORKSPACE_WRAPPER
    RUSTFLAGS="-C target-feature=+crt-static" CARGO_PROFILE_RELEASE_DEBUG=false \
      cargo build --quiet --release --target "$host" --target-dir "$cache/target" --package microscaler-testbed --bin "$1" >&2
    cp "$cache/target/$host/release/$1" "$2/"
  ) 8>"$cache/cargo.lock"
}
