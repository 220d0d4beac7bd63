"""Write invented notes in the form of MIMIC-III's NOTEEVENTS.csv: for the demo, tests, and load tests.

python -m data_prep.synthetic --output=NOTEEVENTS.csv.gz --num_notes=2000 --seed=0
python -m data_prep.synthetic --output=MIMIC --tables=mimic_iii --num_patients=2000
"""

from clinicalbert_jax import cli
from data_prep.synthetic.command import Options, run

if __name__ == "__main__":
    cli.run(run, Options)
