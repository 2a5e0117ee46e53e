.DEFAULT_GOAL := help
PORT ?= 8000
APP_PORT ?= 3000
EVENTS ?= 100000
SECONDS ?= 300
# uv where it is present; else one of our own, inside the virtual environment. CI has it be our own.
UV_VERSION := 0.13.9
UV := $(shell command -v uv 2>/dev/null || echo .venv/bin/uv)
# What makes .venv where no uv is found; uv takes the Python that it finds first, or UV_PYTHON.
PYTHON ?= python3
RUN := .venv/bin/
# uv comes with a list of certificate authorities, in which a proxy's own isn't; the system's list has it, where there is one.
# What you set yourself stays. (UV_NATIVE_TLS is its name before uv 0.11.)
ifneq ($(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem),)
ifeq ($(UV_SYSTEM_CERTS)$(UV_NATIVE_TLS),)
export UV_SYSTEM_CERTS := true
export UV_NATIVE_TLS := true
endif
endif

help: ## list these verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: setup ## start everything: Postgres, the API on :8000 (PORT=…); Ctrl-C stops it
	@$(RUN)daybook serve --port $(PORT)

test: setup ## run the whole suite, with branch coverage
	@$(RUN)coverage erase
	@$(RUN)coverage run -m pytest -n auto --dist worksteal --max-worker-restart 0 $(ARGS)
	@$(RUN)coverage combine -q
	@$(RUN)coverage report

check: setup ## lint, format, types, layers
	@$(RUN)ruff check
	@$(RUN)ruff format --check
	@$(RUN)mypy
	@$(RUN)lint-imports --no-cache

fix: setup ## mend what ruff can mend
	@$(RUN)ruff check --fix
	@$(RUN)ruff format

bench: setup ## how fast the service is, beside a peer, its own routes, and Postgres (half an hour; ARGS=--quick, --help)
	@$(RUN)python -m bench.compare $(ARGS)

bench-growth: setup ## whether it is as fast with five million events as with a hundred thousand (ten minutes)
	@$(RUN)python -m bench.growth $(ARGS)

bench-export: setup ## how much memory the export of a log takes, and how fast it is (EVENTS=…)
	@$(RUN)python -m bench.export --events $(EVENTS)

bench-rebuild: setup ## how fast the projection is rebuilt and the log verified, a million events
	@$(RUN)python -m bench.rebuild

bench-writes: setup ## what writes wait while the projection is emptied and rebuilt, and whether any is lost
	@$(RUN)python -m bench.writers

bench-heavy: setup ## what a user with 300,000 events and 20,000 long tasks costs the others (ARGS=--help)
	@$(RUN)python -m bench.heavy $(ARGS)

bench-drill: setup ## what users see when a Citus worker is killed or frozen, shards are moved, rows rebuilt (ARGS=--help)
	@$(RUN)python -m bench.drill $(ARGS)

soak: setup ## half the load that the service can bear, for five minutes: errors, memory, speed (SECONDS=…)
	@$(RUN)python -m bench.soak --seconds $(SECONDS)

openapi: setup ## write docs/openapi.json anew, as the code has it
	@$(RUN)python -m tests.openapi

schema: setup ## write db/schema.sql anew, as the migrations have it
	@$(RUN)python -m tests.schema

client: ## install the TypeScript client, write its types anew from docs/openapi.json, and build it
	@cd clients/typescript && npm ci --no-audit --no-fund && npm run -s types > src/schema.d.ts && npm run -s build

guides: setup ## write the code in docs/guides anew, as examples/next has it
	@$(RUN)python -m tests.guides

example: setup client ## start the Next.js example on :3000 (APP_PORT=…), with Postgres and Daybook; Ctrl-C stops all
	@cd examples/next && npm ci --no-audit --no-fund
	@$(RUN)python -m examples.run --port $(APP_PORT) --daybook-port $(PORT)

web: ## install what the page is built with, and build it anew into api/static
	@cd web && npm ci --no-audit --no-fund && npm run -s build

setup: .venv/.ready

.venv/.ready: pyproject.toml uv.lock
	@echo "Setting up .venv …"
	@command -v $(UV) >/dev/null || { $(PYTHON) -m venv .venv && .venv/bin/pip install -q --disable-pip-version-check uv==$(UV_VERSION); }
	@$(UV) sync --locked --inexact --quiet
	@touch $@

clean: ## remove what these verbs made, but not your data
	rm -rf .venv .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .hypothesis tests/better_auth/node_modules clients/typescript/node_modules clients/typescript/dist examples/next/node_modules examples/next/.next web/node_modules web/screenshots

.PHONY: help run test check fix bench bench-growth bench-export bench-rebuild bench-writes bench-heavy bench-drill soak openapi schema client guides example web setup clean
