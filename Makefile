# Two commands for newcomers: `make demo` and `make test`. Each target makes its own environment; nothing is global.

PYTHON ?= python3
PIP = $(1)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test docs check format bench clean

demo: .venv/demo.done  ## pre-train, fine-tune and compare on real reviews, Chinese and English
	.venv/demo/bin/bothways demo --out bothways-demo --overwrite

test: .venv/dev.done  ## all tests
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 .venv/dev/bin/python -m pytest --numprocesses auto --dist worksteal

docs: .venv/docs.done  ## the guide as a site, in English and Chinese: build/docs/index.html
	GUIDE_LANGUAGE=en .venv/docs/bin/python -m sphinx -W -q -c docs/guide docs build/docs/en
	GUIDE_LANGUAGE=zh .venv/docs/bin/python -m sphinx -W -q -c docs/guide docs build/docs/zh
	cp docs/guide/languages.html build/docs/index.html

check: .venv/dev.done  ## format, lint, types, which room imports which
	.venv/dev/bin/ruff format --check .
	.venv/dev/bin/ruff check .
	.venv/dev/bin/mypy
	.venv/dev/bin/lint-imports --no-logo

format: .venv/dev.done  ## put the code into its format
	.venv/dev/bin/ruff format .
	.venv/dev/bin/ruff check --fix .

bench: .venv/dev.done  ## every claim of the README, some hours; DATA names a folder with sst2/train.csv.xz and others
	HF_HUB_OFFLINE=1 .venv/dev/bin/python benchmarks/output_layers.py
	HF_HUB_OFFLINE=1 .venv/dev/bin/python benchmarks/pretraining.py
	HF_HUB_OFFLINE=1 .venv/dev/bin/python benchmarks/preparation.py
	HF_HUB_OFFLINE=1 .venv/dev/bin/python benchmarks/kills.py
	HF_HUB_OFFLINE=1 .venv/dev/bin/python benchmarks/classify_many.py
	HF_HUB_OFFLINE=1 .venv/dev/bin/python benchmarks/objectives.py
	HF_HUB_OFFLINE=1 .venv/dev/bin/python benchmarks/against_transformers.py $(if $(DATA),--data $(DATA))
	HF_HUB_OFFLINE=1 .venv/dev/bin/python benchmarks/engine.py $(if $(DATA),--data $(DATA)) --save engine
	HF_HUB_OFFLINE=1 .venv/dev/bin/python benchmarks/serving.py $(if $(DATA),--data $(DATA)) --save serving
	$(if $(DATA),HF_HUB_OFFLINE=1 .venv/dev/bin/python benchmarks/tables.py --data $(DATA) --done build/tables.jsonl)
	$(if $(DATA),HF_HUB_OFFLINE=1 .venv/dev/bin/python benchmarks/distillation.py --data $(DATA) --save distillation)
	$(if $(DATA),HF_HUB_OFFLINE=1 .venv/dev/bin/python benchmarks/long_texts.py --data $(DATA))
	$(if $(DATA),HF_HUB_OFFLINE=1 .venv/dev/bin/python benchmarks/several_outputs.py --data $(DATA))
	$(if $(DATA),HF_HUB_OFFLINE=1 .venv/dev/bin/python benchmarks/calibration.py --data $(DATA) --sets sst2 chnsenticorp tnews --rows 4000 --save temperature)
	$(if $(DATA),HF_HUB_OFFLINE=1 .venv/dev/bin/python benchmarks/calibration.py --data $(DATA) --sets clinc150 --encoder minilm --rows 15000 --save none_of_these)
	$(if $(DATA),HF_HUB_OFFLINE=1 .venv/dev/bin/python benchmarks/few_rows.py --data $(DATA) --rows 1000 --test-rows 1000 --save few_rows)
	$(if $(DATA),HF_HUB_OFFLINE=1 .venv/dev/bin/python benchmarks/comparison.py --data $(DATA) --rows 1000 --pages docs --save comparison)
	$(if $(DATA),HF_HUB_OFFLINE=1 .venv/dev/bin/python benchmarks/label_errors.py --data $(DATA))
	$(if $(DATA),HF_HUB_OFFLINE=1 .venv/dev/bin/python benchmarks/coming_from.py --data $(DATA) --save coming_from)
	$(if $(DATA),HF_HUB_OFFLINE=1 .venv/dev/bin/python benchmarks/what_to_label.py --data $(DATA))
	$(if $(DATA),HF_HUB_OFFLINE=1 .venv/dev/bin/python benchmarks/explaining.py --data $(DATA))
	HF_HUB_OFFLINE=1 .venv/dev/bin/python benchmarks/evaluation.py

.venv/demo.done: EXTRA = [demo]
.venv/docs.done: EXTRA = [docs]
.venv/dev.done: EXTRA = [bench,check,test]
.venv/dev.done: BESIDE = --editable ./encoders
.venv/%.done: pyproject.toml constraints.txt encoders/pyproject.toml $(wildcard src/bothways/inference/csrc/*)
	$(PYTHON) -m venv --clear .venv/$*
	$(call PIP,.venv/$*) --editable '.$(EXTRA)' $(BESIDE)
	touch $@

clean:
	rm -rf .venv bothways-demo build dist src/*.egg-info src/bothways/_kernels*
