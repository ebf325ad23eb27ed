# What the demonstrations share: they source this file in the root of the repository.

dim='' plain=''
if [ -t 2 ] && [ -z "${NO_COLOR:-}" ]; then dim=$'\033[2m' plain=$'\033[0m'; fi
say() { printf '%s%s%s\n' "$dim" "$*" "$plain" >&2; }

build() {
  say "building (the first time takes some minutes)"
  cargo build --release --locked --bin microscaler
  cargo build --release --locked --package microscaler-testbed --bins
  target="${CARGO_TARGET_DIR:-target}/release"
}

# ---- an end in order ------------------------------------------------------------------------------------------------------------

# Background jobs of a script ignore Ctrl-C, so that they end in order, by their pids, when this script says so.
work=$(mktemp -d)
pids=()
finish() {
  trap '' INT TERM HUP; trap - EXIT
  printf '\n' >&2
  say "ending $everything"
  for pid in "${pids[@]}"; do kill "$pid" 2> /dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2> /dev/null || true; done
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 0' INT TERM HUP

# ---- what is started ------------------------------------------------------------------------------------------------------------

# Waits until a file holds a line that matches, for as long as the process lives.
wait_for_line() { # PID FILE PATTERN
  until grep -q "$3" "$2" 2> /dev/null; do
    kill -0 "$1" 2> /dev/null || { cat "$work"/*.log >&2; exit 1; }
    sleep 0.05
  done
}

start_mesos() {
  say "starting Apache Mesos: one master and three agents"
  "$target/mesos-local" --agents 3 --resources 'cpus:4.02;mem:2112;disk:4096;ports:[31000-31999]' --attribute 'rack:r{i}' \
    > "$work/mesos.json" 2> "$work/mesos.log" &
  pids+=($!)
  wait_for_line $! "$work/mesos.json" masters
  master=$(sed -E 's/.*"masters":\["([^"]*)".*/\1/' "$work/mesos.json")
  say "Mesos is at $master (open it in a browser)"
}

# The manifests of the demonstration, in `$work/manifests`: the pool names the usual address of a master and the usual place of the
# program, and has to name these. Files of further directories take the place of those of the same name.
make_manifests() { # [DIRECTORY…]
  mkdir "$work/manifests"
  for directory in manifests/demo "$@"; do cp "$directory"/* "$work/manifests"; done
  sed -i "s|http://127.0.0.1:5050|$master|; s|/usr/local/bin/microscaler|$(realpath "$target/microscaler")|" "$work/manifests/pool.yaml"
  grep -q "$master" "$work/manifests/pool.yaml" || { say "manifests/demo/pool.yaml names another master than expected"; exit 1; }
}

# Starts the program with some arguments, and waits until it serves at `$server`.
start_microscaler() {
  "$target/microscaler" "$@" --log info --log-format text --listen 127.0.0.1:0 > /dev/null 2> "$work/microscaler.log" &
  pids+=($!)
  wait_for_line $! "$work/microscaler.log" 'serving http'
  server=$(sed -nE 's/.*serving (http[^[:space:]]*).*/\1/p' "$work/microscaler.log" | head -1)
  say "Microscaler is at $server; try in another terminal:"
  say "  $target/microscaler describe app search --server $server"
}
