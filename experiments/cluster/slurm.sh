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
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

python=${PYTHON:-.venv/bin/python}
command=(srun --kill-on-bad-exit=1 "$python" -m mmgrec_jax.main --multihost "$@")
if [[ -n ${DRY_RUN:-} ]]; then
  printf '%q ' "${command[@]}"
  echo
  exit
fi

# bash hands signals to nobody while it waits in the foreground.
"${command[@]}" &
trap 'kill -TERM $!' TERM
code=0
wait $! || code=$?
if ((code > 128)); then # the wait was cut short, the run is still saving
  code=0
  wait $! || code=$?
fi
if ((code == 143)); then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
