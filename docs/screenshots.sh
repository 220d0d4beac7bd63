#!/bin/sh
# Make the screenshots of README.md in docs/images/ from the demo. Run after `make demo`; needs chromium.
#
#     docs/screenshots.sh demo .venv/bin/python
set -eu
demo=$(cd "$1" && pwd)
python=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A fine-tuning run to show: the category of a note from its text, tested on patients that are not trained on.
"$python" - "$demo/NOTEEVENTS.csv.gz" "$work" <<'PYTHON'
import csv
import gzip
import sys
from pathlib import Path

notes, work = sys.argv[1], Path(sys.argv[2])
with gzip.open(notes, "rt", newline="") as file:
    rows = [row for row in csv.DictReader(file) if row["TEXT"].strip()][:1200]
for name, remainders in (("train", range(1, 10)), ("validation", [0])):
    with (work / f"{name}.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "label"])
        kept = [row for row in rows if int(row["SUBJECT_ID"]) % 10 in remainders]
        writer.writerows([row["ROW_ID"], row["TEXT"], row["CATEGORY"].strip()] for row in kept)
PYTHON
"$python" -m clinicalbert_jax.finetune --config=configs/finetune/classification.py --model="$demo/model" \
    --train="$work/train.csv" --validation="$work/validation.csv" --workdir="$work/categories" \
    --config.task.max_seq_length=32 --config.task.fresh_pooler=true --config.task.max_training_chunks=1 --config.optimizer.learning_rate=1e-3
"$python" -m clinicalbert_jax.report --workdir="$demo/run" --output="$work/report.html"

picture() { # page, file, height
    chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$work/profile" \
        --window-size="780,$3" --screenshot="docs/images/$2" "file://$1" >/dev/null 2>&1
}
mkdir -p docs/images
picture "$work/report.html" run_report.png 1050
picture "$(ls "$demo"/data/clinical_notes/*/data_card.html)" data_card.png 1050
picture "$(ls "$work"/categories/*.html)" finetuning.png 1050
ls -l docs/images
