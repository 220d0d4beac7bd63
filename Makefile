# Everything runs from a checkout with Python 3.11 or newer; PYTHON and VENV may name others.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= demo
DATA := $(DEMO)/data/clinical_notes/1.0.0
# The demo compares its export with PyTorch where PyTorch is installed, and does not need its gigabytes otherwise.
VERIFY = $(shell $(BIN)/python -c 'import importlib.util as u; print("--verify" if u.find_spec("torch") else "")')

# "[gpu]" of EXTRAS=gpu, nothing of none.
EXTRA = $(if $(EXTRAS),[$(EXTRAS)])

.PHONY: demo accelerator test test-fast test-tpu lint soak wheelhouse requirements clean

# Synthetic notes -> vocabulary and shards -> a tiny BERT -> held-out figures -> a PyTorch directory -> predictions
# -> a report.
demo: $(VENV)/.installed
	$(BIN)/python -m data_prep.synthetic --output=$(DEMO)/NOTEEVENTS.csv.gz --num_notes=8000 --overwrite
	@umask 077; echo "A fixed salt: invented notes need no secret one." > $(DEMO)/salt
	$(BIN)/python -m data_prep --input=$(DEMO)/NOTEEVENTS.csv.gz --output_dir=$(DEMO)/data --max_seq_length=32 --deid_policy=type \
	    --salt_file=$(DEMO)/salt \
	    --train_vocab --vocab_size=3000 --do_lower_case --dupe_factor=1 --validation_fraction=0.02 --test_fraction=0.02
	$(BIN)/python run_pretrain.py --config=configs/demo.py --data_dir=$(DATA) --workdir=$(DEMO)/run
	$(BIN)/python -m clinicalbert_jax.evaluate --workdir=$(DEMO)/run --data_dir=$(DATA) --split=test
	$(BIN)/python -m clinicalbert_jax.export --workdir=$(DEMO)/run --output_dir=$(DEMO)/model --overwrite $(VERIFY)
	$(BIN)/python -m clinicalbert_jax.fill_mask --model=$(DEMO)/model --show_text "The patient was admitted for [MASK] pneumonia."
	$(BIN)/python -m benchmarks.demo_sentences --model=$(DEMO)/model
	$(BIN)/python -m clinicalbert_jax.fill_mask --model=$(DEMO)/model --show_text \
	    --candidates=bacterial,viral,aspiration,community-acquired "The patient was admitted for [MASK] pneumonia."
	$(BIN)/python -m clinicalbert_jax.report --workdir=$(DEMO)/run
	@printf '%s\n' "" \
	    "In $(DEMO)/: NOTEEVENTS.csv.gz (the notes), data (shards and data card), run (checkpoints and metrics)," \
	    "model (for PyTorch: BertForPreTraining.from_pretrained('$(DEMO)/model'))." \
	    "With your own notes: $(BIN)/python -m data_prep --input=NOTEEVENTS.csv.gz --output_dir=DATA --vocab_file=vocab.txt," \
	    "then run_pretrain.py with a config of configs/; README.md says how." \
	    "The report of the run: file://$(abspath $(DEMO)/run/report.html)"

# Is this machine's GPU or TPU right, how fast, and against PyTorch: nine minutes (EXTRAS=gpu or tpu). Small on a CPU.
accelerator: $(VENV)/.installed$(if $(EXTRAS),-$(EXTRAS))
	$(BIN)/python -m benchmarks.accelerator

# Lint, types and tests, with everything the tests need.
test: $(VENV)/.installed-test lint
	$(BIN)/pytest -q -n 2 --dist=loadfile --durations=10 -m "not soak" tests

# The tests marked `fast`, for a second Python: no PyTorch, no Beam.
test-fast: $(VENV)/.installed-fast
	$(BIN)/pytest -q -n 2 --dist=loadfile -m "fast and not soak" tests

# The train step compiled for a TPU, which takes the compiler (0.7 GB) and no TPU.
test-tpu: $(VENV)/.installed-tpu
	$(BIN)/pytest -q tests/clinicalbert_jax/training/test_tpu_compilation.py

# Needs neither PyTorch nor Beam.
lint: $(VENV)/.installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# What takes longer than a test run should.
soak: $(VENV)/.installed-test
	$(BIN)/pytest -q -m soak tests

# Everything that an installation needs, as files, for a machine without a network; EXTRAS=gpu or tpu for accelerators.
wheelhouse: $(VENV)/.installed
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check -c constraints.txt --wheel-dir wheelhouse \
	    "setuptools>=77" ".$(EXTRA)"
	rm -rf build
	@printf '%s\n' "Copy this checkout with wheelhouse/ to the other machine (same system, same Python), and there:" \
	    "    python3 -m venv .venv" \
	    "    .venv/bin/pip install --no-index --find-links=wheelhouse -c constraints.txt -e \".$(EXTRA)\""

# Every package of an installation with its version and SHA-256, for `pip install --require-hashes` on a like machine.
requirements: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --dry-run --ignore-installed --report - \
	    -c constraints.txt "setuptools>=77" -e ".$(EXTRA)" | $(BIN)/python deploy/hashed_requirements.py > requirements.txt
	@printf '%s\n' "requirements.txt is for this system and Python:" \
	    "    pip install --require-hashes -r requirements.txt && pip install --no-deps --no-build-isolation -e ."

clean:
	rm -rf $(DEMO) wheelhouse .venv .venv-* .pytest_cache .mypy_cache .ruff_cache

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test,torch,beam]" sentence-transformers
	touch $@

$(VENV)/.installed-lint: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[lint]"
	touch $@

$(VENV)/.installed-fast: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test]"
	touch $@

# PyTorch and CUDA for JAX; where PyTorch is already installed, its version stays.
$(VENV)/.installed-gpu: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[gpu,torch]"
	touch $@

$(VENV)/.installed-tpu: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test,tpu]"
	touch $@
