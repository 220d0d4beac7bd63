"""Export a run as a Hugging Face directory: `python -m clinicalbert_jax.export --workdir=RUN --output_dir=DIR`.

Needs no PyTorch; with it, `--verify` compares what was written with the run, tensor by tensor and output by output.
Exit codes: 0 done, 1 with --verify where PyTorch computes something else, 2 user error.
"""

from clinicalbert_jax import cli
from clinicalbert_jax.export.write_run import Options, export

if __name__ == "__main__":
    cli.run(export, Options)
