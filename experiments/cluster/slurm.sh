#!/usr/bin/env bash
# One run over the GPUs of several nodes; all see --workdir and --config.data.
#
#   sbatch --nodes=2 experiments/cluster/slurm.sh \
#     --config=configs/kwai.py --config.data=/shared/kwai --workdir=/shared/run
#
# Before its time is up Slurm sends SIGTERM: the run saves and ends with 143, and
# is queued again. DRY_RUN=1 prints what would be started, without Slurm.
#SBATCH --job-name=mmgrec
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --time=04:00:00
# To the processes themselves. What is sent to srun kills them, unsaved; so no B:
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

if [[ " $*" != *" --workdir"[=\ ]* ]]; then
  echo "give --workdir=FOLDER, on storage that all nodes see." >&2
  exit 2
fi
gpus=${SLURM_GPUS_ON_NODE:-0}
if ((gpus > 0)); then # else JAX would take one for each process
  JAX_LOCAL_DEVICE_IDS=$(seq -s, 0 $((gpus - 1)))
  export JAX_LOCAL_DEVICE_IDS
fi

python=${PYTHON:-.venv/bin/python}
command=(srun --kill-on-bad-exit=1 "$python" -m mmgrec_jax.main --multihost "$@")
if [[ -n ${DRY_RUN:-} ]]; then
  printf '%q ' "${command[@]}"
  echo
  exit
fi

# Its exit code is the highest of all processes. They leave JAX together, once
# all have saved, so that the first to end takes nothing from the others.
code=0
"${command[@]}" || code=$?
if ((code == 143)); then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
