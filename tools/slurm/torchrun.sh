#!/usr/bin/env bash
# Trains one stage of a recipe on the GPUs of several machines, one process a GPU, with torchrun and without SLURM.
#
#   NODES=2 HEAD=gpu1:29500 tools/slurm/torchrun.sh recipes/x.yaml train [more options of hlas run]
#
# Start it once on every machine, with the same variables and arguments, within half an hour. The model's YAML says
# how many GPUs: trainer.num_nodes is NODES, trainer.devices is GPUS. README.md beside this file says what is needed.
#
#   NODES   machines (default: 1)
#   GPUS    processes, one a GPU, on each machine (default: the GPUs that nvidia-smi lists)
#   HEAD    host:port of one of the machines, which all of them reach (default: this one; needed for NODES > 1)
set -euo pipefail

[ $# -ge 2 ] || { echo "usage: $0 RECIPE STAGE [options of hlas run]" >&2; exit 2; }
recipe=$1 stage=$2
shift 2
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.."

nodes=${NODES:-1}
gpus=${GPUS:-$(nvidia-smi --list-gpus | wc -l)}
meeting=(--standalone)
if [ "$nodes" -gt 1 ]; then
  : "${HEAD:?set it to host:port of one of the machines}"
  # the same name for one training on all machines, so that two trainings do not meet at one port
  meeting=(--rdzv-backend=c10d "--rdzv-endpoint=$HEAD" "--rdzv-id=$recipe-$stage")
fi

# without restarts: the same command, started again, goes on from the last epoch
bin=${HLAS_VENV:-.venv}/bin
exec "$bin/torchrun" "${meeting[@]}" "--nnodes=$nodes" "--nproc-per-node=$gpus" --max-restarts=0 --no-python \
  "$bin/hlas" run "$recipe" --only "$stage" "$@"
