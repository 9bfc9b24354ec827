#!/usr/bin/env bash
# One run over all hosts of a Cloud TPU slice; all see --workdir and
# --config.data, such as on a mounted bucket or NFS.
#
#   TPU=my-v4-32 ZONE=us-central2-b experiments/cluster/tpu_vm.sh \
#     --config=configs/kwai.py --config.data=/mnt/kwai --workdir=/mnt/run
#
# The package must be installed on each host, in ~/mmgrec_jax. A slice that was
# taken away and is there again goes on by the same command. DRY_RUN=1 prints
# what would be started.
set -euo pipefail

: "${TPU:?name of the TPU VM}" "${ZONE:?its zone}"
if [[ " $*" != *" --workdir"[=\ ]* ]]; then
  echo "give --workdir=FOLDER, on storage that all hosts see." >&2
  exit 2
fi
printf -v flags '%q ' "$@"
command=(
  gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all
  --command="cd ~/mmgrec_jax && .venv/bin/python -m mmgrec_jax.main --multihost $flags"
)
if [[ -n ${DRY_RUN:-} ]]; then
  printf '%q ' "${command[@]}"
  echo
  exit
fi
exec "${command[@]}"
