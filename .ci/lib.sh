# Functions for the scripts in this folder. A script starts with
#   . "$(dirname "$0")/lib.sh"
# which also changes to the root of the repository.
# shellcheck shell=bash
set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/.."

dir=''            # set by make_dir: the script's files, and a log of each process
engine=''         # set by start_engine: its PID
engine_command=() # starts the engine again

# say prints a line of progress with the seconds since the script started.
say() { printf '%4ds  %s\n' "$SECONDS" "$*"; }

# fail prints the reason and ends the script.
fail() {
  printf 'FAILED: %s\n' "$*" >&2
  exit 1
}

# is fails unless $3, the value of what $1 names, is $2.
is() { [ "$2" = "$3" ] || fail "$1: expected $2, got ${3:-nothing}"; }

# quietly runs a command and prints its output only if it fails.
quietly() { "$@" >"$dir/quiet.log" 2>&1 || { tail -n 30 "$dir/quiet.log" >&2; fail "$*"; }; }

# eventually runs a command until it succeeds, for at most three minutes: a machine may be busy.
eventually() {
  local deadline=$((SECONDS + 180))
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.2
  done
}

# need_root ends the script unless it runs as root. $1 completes "this script …".
need_root() {
  [ "$(id -u)" = 0 ] || { echo "Run this as root: it $1." >&2; exit 1; }
}

# make_dir creates $dir from the template $1. However the script ends, on_exit runs if the
# script defines it; then the engine is stopped and $dir is removed.
make_dir() {
  dir=$(realpath "$(mktemp -d "$1")") # as /proc/self/mountinfo prints it
  trap clean_up EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 141' PIPE
  trap 'exit 143' TERM
}
clean_up() {
  local status=$?
  trap '' HUP INT PIPE TERM # a second Ctrl-C must not interrupt this
  set +e
  ! declare -F on_exit >/dev/null || on_exit
  stop_engine
  # Unmount first: rm must not delete the content of what is mounted.
  awk -v dir="$dir/" 'index($5, dir) == 1 { print $5 }' /proc/self/mountinfo | sort -r | xargs -r umount -l
  rm -rf --one-file-system "$dir"
  exit $status
}

# start runs $2… in the background, logs to $dir/$1.log and stores its PID in the variable $1.
# It runs in a session of its own: Ctrl-C reaches only the script, which ends it in order.
start() {
  local name=$1
  shift
  setsid "$@" >>"$dir/$name.log" 2>&1 &
  printf -v "$name" %s $!
}

# end terminates the process $1, if any, and waits for it.
end() {
  [ -n "$1" ] || return 0
  kill "$1" 2>/dev/null
  eventually gone "$1" || kill -9 "$1" 2>/dev/null
  wait "$1" 2>/dev/null
}
gone() { ! kill -0 "$1" 2>/dev/null; }

# await waits until the process that start stored in $1 makes the command $2… succeed.
await() {
  local name=$1
  shift
  if ! eventually settled "${!name}" "$@" || gone "${!name}"; then
    tail -n 20 "$dir/$name.log" >&2
    fail "$name does not start"
  fi
}
settled() { gone "$1" || "${@:2}"; }

# start_engine starts a Docker engine in $dir and points the Docker CLI to it. $@ starts
# .ci/engine; without it, the engine is Debian's.
start_engine() {
  # The user's own settings could point elsewhere, or print otherwise.
  unset DOCKER_CONTEXT DOCKER_TLS DOCKER_TLS_VERIFY DOCKER_CERT_PATH DOCKER_API_VERSION DOCKER_DEFAULT_PLATFORM
  export DOCKER_HOST=unix://$dir/docker.sock DOCKER_CONFIG=$dir/cli
  engine_command=("$@")
  [ $# -gt 0 ] || engine_command=(.ci/engine "$dir")
  start engine "${engine_command[@]}"
  await engine answers
}
answers() { docker version >/dev/null 2>&1; }

# stop_engine removes all containers, which would outlive the engine, and stops it.
stop_engine() {
  [ -n "$engine" ] || return 0
  if gone "$engine"; then # only an engine can remove them
    # containerd died with the engine, but its PID exists until it is reaped.
    rm -f "$dir/exec/containerd/containerd.pid"
    start engine "${engine_command[@]}"
    eventually settled "$engine" answers
  fi
  docker swarm leave --force >/dev/null 2>&1
  docker ps --all --quiet 2>/dev/null | xargs -r setsid docker rm --force >/dev/null 2>&1
  end "$engine"
}

# page prints the metrics of the exporter. The script defines "inside", which runs a command
# in the exporter's network.
page() { inside curl -sf http://127.0.0.1:10058/metrics; }

# value prints the value of the series $1.
value() { page | awk -v series="$1" '$1 == series { printf "%.0f", $2 }'; }

# is_up is whether the exporter serves figures of the engine.
is_up() { [ "$(value docker_up)" = 1 ]; }

# check_figures compares some figures of the exporter with the engine, whose data is in $1.
check_figures() {
  is docker_up 1 "$(value docker_up)"
  is "tagged images" "$(docker images -q --no-trunc --filter dangling=false | sort -u | wc -l)" "$(value docker_images_tagged)"
  is "size of the file system of $1" "$(($(stat -f -c '%b * %S' "$1")))" "$(value "docker_filesystem_size_bytes{path=\"$1\"}")"
  is "collectors that failed" "" "$(page | grep '^docker_scrape_collector_success.* 0$')"
}

# free_port prints the first port from $1 on at which nothing listens.
free_port() {
  local port=$1
  while (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
  echo "$port"
}
