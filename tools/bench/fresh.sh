#!/usr/bin/env bash
# Times what a new user meets, from nothing: clone, installation, the whole demo, the unchanged run after it, and the
# commands that must be instant. Prints seconds; asserts nothing.
#
#   tools/bench/fresh.sh [FOLDER]     FOLDER: where to clone to (default: a new temporary folder, removed at the end)
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
if [ $# -gt 0 ]; then
  folder=$1
else
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
fi

timed() {  # timed LABEL COMMAND…: seconds of the command, its output in a log
  local label=$1 start end
  shift
  start=$(date +%s.%N)
  "$@" >"$folder/${label// /_}.log" 2>&1 || { tail -n 20 "$folder/${label// /_}.log"; exit 1; }
  end=$(date +%s.%N)
  printf '%-34s %8.2f s\n' "$label" "$(echo "$end - $start" | bc -l 2>/dev/null || awk "BEGIN {print $end - $start}")"
}

export XDG_CACHE_HOME=$folder/cache # neither pip's cache nor weights that are here already
git clone -q "$root" "$folder/hlas"
cd "$folder/hlas"
echo "commit $(git rev-parse --short HEAD), $(nproc) processors, $(date -u +%F)"
timed "installation and demo" ./hlas run recipes/demo.yaml
timed "demo again unchanged" ./hlas run recipes/demo.yaml
timed "help" ./hlas --help
timed "plan" ./hlas plan recipes/demo.yaml
