# Everyday commands; `make help` lists them. The build itself is CMakeLists.txt, the tests scripts/test.py.
SHELL := /bin/bash
PREFIX ?= /usr/local
BUILD := build/release
# What clang-format lays out.
SOURCES = $(shell git ls-files --cached --others --exclude-standard '*.h' '*.cc' '*.c')

.DEFAULT_GOAL := help
.PHONY: help run build test bench examples install wheel format lint clean

help: ## this list
	@sed -n 's/^\([a-z]*\): [^#]*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18

run: build ## install what is missing, build, and show what a model looked at
	@scripts/main-job

build: ## install what is missing and build build/release
	@scripts/need run
	@test -e $(BUILD)/build.ninja || cmake --preset release
	@cmake --build $(BUILD) --target qkv qkv_cli qkv_sql

test: ## every check: tests, sanitizers, clang, ARM, layout, docs (scripts/test.py --list)
	@scripts/need test
	@python3 scripts/test.py $(STAGES)

bench: ## build and run every program of bench/
	@scripts/need test
	@cmake --preset release -DQKV_BENCH=ON
	@cmake --build $(BUILD)
	@set -e; for program in $(BUILD)/bench/*; do \
	  if [ -x "$$program" ]; then echo "== $$program"; "$$program"; fi; done

examples: ## build the programs of examples/ into build/release/examples
	@scripts/need run
	@cmake --preset release -DQKV_EXAMPLES=ON
	@cmake --build $(BUILD) --target qkv_examples

install: build ## install under PREFIX (default /usr/local)
	cmake --install $(BUILD) --prefix "$(PREFIX)"

wheel: ## make a Python wheel in dist/
	@scripts/need test
	@scripts/venv
	@scripts/package wheel

format: ## lay out every C and C++ source with clang-format
	clang-format -i $(SOURCES)

lint: ## layout, clang-tidy, shellcheck, layering
	@python3 scripts/test.py format tidy shell house

clean: ## remove everything built, not the installed packages
	rm -rf build .cache
