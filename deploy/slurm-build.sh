#!/bin/bash
# Builds a cache into a bucket on preemptible nodes, by Slurm: sbatch deploy/slurm-build.sh PROMPTS TEACHER ENCODER CACHE
#SBATCH --job-name=armada-build
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@180
# Before the limit, or when the nodes are taken away, this script gets SIGTERM: the build commits what it has, and the
# requeued job goes on by the same command. Work in progress lies on each node's own disk: SQLite wants no network folder.
set -euo pipefail
if [ "$#" -ne 4 ]; then
  echo "usage: sbatch $0 PROMPTS TEACHER ENCODER CACHE" >&2
  exit 2
fi
export XDG_STATE_HOME="${ARMADA_STATE:-/tmp/armada-state-$USER}"
port=$((20000 + SLURM_JOB_ID % 20000))
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" \
  ray start --head --port "$port" --num-gpus "$SLURM_GPUS_ON_NODE" --num-cpus "$SLURM_CPUS_PER_TASK" --block &
sleep 20
if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
  srun --overlap --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks=$((SLURM_JOB_NUM_NODES - 1)) --exclude="$head" \
    ray start --address "$head:$port" --num-gpus "$SLURM_GPUS_ON_NODE" --num-cpus "$SLURM_CPUS_PER_TASK" --block &
  sleep 20
fi

armada cache build "$1" --teacher "$2" --encoder "$3" --cache "$4" \
  --ray "$head:$port" --workers $((SLURM_JOB_NUM_NODES * SLURM_GPUS_ON_NODE)) --ray-options num_gpus=1,num_cpus=4 \
  --seal-rows 1024 --seal-seconds 300 &
build=$!
trap 'kill -TERM "$build"' TERM
code=0
wait "$build" || code=$?
if kill -0 "$build" 2>/dev/null; then # the trap ended the first wait
  code=0
  wait "$build" || code=$?
fi
if [ "$code" -eq 130 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
