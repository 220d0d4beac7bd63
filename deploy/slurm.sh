#!/bin/bash
# Several nodes with GPUs, a process for each GPU:  DATA_DIR=... RUN=... sbatch deploy/slurm.sh
#
# Submit it from the checkout, on a file system that all nodes share. Five minutes before its time is over, or where the
# job is preempted, the run saves and exits with 75; the job then queues again and continues at the next batch. So does
# one that SIGTERM has ended before the run could prepare for it (143).
#SBATCH --job-name=clinicalbert
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -u
: "${DATA_DIR:?the NAME/VERSION directory that data_prep wrote}" "${RUN:?the directory of the run}"

# In the background: bash acts on a signal only between commands, or while it waits. srun passes SIGTERM on to all tasks.
training= stopped=
trap 'stopped=yes; [ -z "$training" ] || kill -TERM "$training"' TERM
srun .venv/bin/python run_pretrain.py --config="${CONFIG:-configs/bert_base_128.py}" --data_dir="$DATA_DIR" \
    --workdir="$RUN" "$@" &
training=$!
[ -z "$stopped" ] || kill -TERM "$training"
wait "$training"
code=$?
while kill -0 "$training" 2>/dev/null; do # the signal ended the first wait, not the training
    wait "$training"
    code=$?
done

if [ "$code" -eq 75 ] || [ "$code" -eq 143 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
