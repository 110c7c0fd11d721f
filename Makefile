# rowferry: `make help` is the door.

BUILD ?= release
ifeq ($(origin CC),default)
CC := $(if $(filter fuzz,$(BUILD)),clang,gcc)
endif
CLANG_FORMAT ?= clang-format-14
CLANG_TIDY ?= clang-tidy-14
# Each kind of build and each compiler has a folder of its own; the release program alone is build/rowferry.
O := build/$(BUILD)$(if $(filter clang%,$(notdir $(CC))),$(if $(filter fuzz,$(BUILD)),,-clang))
SECONDS ?= 60
ROUNDS ?= 200
EXPORTS ?= 300

WARNINGS := -Wall -Wextra -Wshadow -Wconversion -Wpointer-arith -Wformat=2 -Wundef -Wvla \
            -Wstrict-prototypes -Wmissing-prototypes -Wwrite-strings -Wcast-qual -Wno-missing-field-initializers

# A flag goes in where the compiler knows it.
knows = $(shell $(CC) -Werror $(1) -c -x c /dev/null -o /dev/null 2>/dev/null && echo $(1))

COMMIT := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
LLHTTP := /usr/share/llhttp
INCLUDES := -Isrc -I. -isystem /usr/share/include/llhttp -isystem $(shell pg_config --includedir 2>/dev/null || echo /usr/include/postgresql)
LIBS := -ljansson -lyaml -lsqlite3 -lpq -lcurl -lexpat -lssl -lcrypto -lm -lpthread

HARDEN := -D_FORTIFY_SOURCE=3 -fstack-protector-strong -fstack-clash-protection -fcf-protection=full \
          -fno-delete-null-pointer-checks -fno-strict-aliasing -fwrapv -fPIE \
          $(call knows,-ftrivial-auto-var-init=zero) $(call knows,-fstrict-flex-arrays=3)
CFLAGS_release := -O2 -g $(HARDEN)
LDFLAGS_release := -pie -Wl,-z,relro,-z,now,-z,noexecstack,-z,separate-code
CFLAGS_debug := -O0 -g3 -Werror -fno-strict-aliasing -DROWFERRY_TESTING=1
CFLAGS_asan := -O1 -g -Werror -fno-omit-frame-pointer -fno-strict-aliasing -fsanitize=address,undefined -fno-sanitize-recover=all -DROWFERRY_TESTING=1
LDFLAGS_asan := -fsanitize=address,undefined
CFLAGS_tsan := -O1 -g -Werror -fsanitize=thread -fno-strict-aliasing -DROWFERRY_TESTING=1
LDFLAGS_tsan := -fsanitize=thread
CFLAGS_cover := -O0 -g --coverage -fno-strict-aliasing -DROWFERRY_TESTING=1
LDFLAGS_cover := --coverage
CFLAGS_fuzz := -O1 -g -Werror -fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=all -fno-strict-aliasing -DROWFERRY_TESTING=1
LDFLAGS_fuzz := -fsanitize=address,undefined,fuzzer

ALL_CFLAGS := -std=c17 $(INCLUDES) -D_GNU_SOURCE -MMD -MP -fmacro-prefix-map=src/= $(WARNINGS) $(CFLAGS_$(BUILD)) $(CFLAGS)
ALL_LDFLAGS := $(LDFLAGS_$(BUILD)) $(LDFLAGS)

SOURCES := $(sort $(shell find src -name '*.c'))
OBJECTS := $(SOURCES:%.c=$(O)/%.o) $(O)/gen/types.o
LLHTTP_OBJECTS := $(addprefix $(O)/llhttp/,api.o http.o llhttp.o)
ARCHIVE := $(O)/librowferry.a
PROGRAM := $(if $(filter build/release,$(O)),build/rowferry,$(O)/rowferry)
UNIT_SOURCES := $(sort $(shell find test/unit test/contract -name '*_test.c' 2>/dev/null))
UNITS := $(UNIT_SOURCES:%.c=$(O)/%)
# What every driver of an interface promises, as code that each driver's test calls.
CONTRACT_SOURCES := $(sort $(filter-out %_test.c,$(wildcard test/contract/*.c)))
CONTRACTS := $(O)/libcontracts.a
# Programs of ours that stories ask.
ASKED_SOURCES := $(sort $(wildcard test/harness/*.c))
ASKED := $(ASKED_SOURCES:%.c=$(O)/%)
FUZZ_SOURCES := $(sort $(wildcard test/fuzz/*_fuzz.c))
FUZZERS := $(FUZZ_SOURCES:%.c=$(O)/%)

# A line a file; V=1 shows the whole commands.
ifneq ($(V),1)
QUIET := @
TELL = @printf '  %-4s %s\n' $(1) $@
endif

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.PHONY: all
all: $(PROGRAM) ## the release build, build/rowferry (BUILD=debug, asan, tsan, cover, fuzz for others)

$(PROGRAM): $(O)/src/main.o $(ARCHIVE)
	$(call TELL,LINK)
	$(QUIET)$(CC) $(ALL_LDFLAGS) -o $@ $(O)/src/main.o $(ARCHIVE) $(LIBS)

$(ARCHIVE): $(filter-out $(O)/src/main.o,$(OBJECTS)) $(LLHTTP_OBJECTS)
	@rm -f $@
	$(call TELL,AR)
	$(QUIET)ar rcs $@ $^

$(O)/%.o: %.c
	@mkdir -p $(@D)
	$(call TELL,CC)
	$(QUIET)$(CC) $(ALL_CFLAGS) -c -o $@ $<

# Rewritten only when the commit is another one.
.PHONY: FORCE
$(O)/commit: FORCE
	@mkdir -p $(@D)
	@echo '$(COMMIT)' | cmp -s - $@ || echo '$(COMMIT)' > $@
$(O)/src/base/version.o: $(O)/commit
$(O)/src/base/version.o: ALL_CFLAGS += -DROWFERRY_COMMIT='"$(COMMIT)"'

$(O)/gen/types.c: $(wildcard types/*.yaml) tools/embed.awk
	@mkdir -p $(@D)
	$(call TELL,GEN)
	$(QUIET)awk -f tools/embed.awk $(sort $(wildcard types/*.yaml)) /dev/null > $@

$(O)/gen/types.o: $(O)/gen/types.c
	$(call TELL,CC)
	$(QUIET)$(CC) $(ALL_CFLAGS) -c -o $@ $<

# Not ours, so without our warnings; strict as dependencies.md says.
$(O)/llhttp/%.o: $(LLHTTP)/%.c
	@mkdir -p $(@D)
	$(call TELL,CC)
	$(QUIET)$(CC) $(INCLUDES) $(CFLAGS_$(BUILD)) -w -DLLHTTP_STRICT_MODE=1 -c -o $@ $<

$(CONTRACTS): $(CONTRACT_SOURCES:%.c=$(O)/%.o)
	@rm -f $@
	$(call TELL,AR)
	$(QUIET)ar rcs $@ $^

$(UNITS): %: %.o $(CONTRACTS) $(ARCHIVE)
	$(call TELL,LINK)
	$(QUIET)$(CC) $(ALL_LDFLAGS) -o $@ $< $(CONTRACTS) $(ARCHIVE) $(LIBS) -lcmocka

$(ASKED): %: %.o $(ARCHIVE)
	$(call TELL,LINK)
	$(QUIET)$(CC) $(ALL_LDFLAGS) -o $@ $< $(ARCHIVE) $(LIBS)

$(O)/test/fuzz/%_fuzz: $(O)/test/fuzz/%_fuzz.o $(ARCHIVE)
	$(call TELL,LINK)
	$(QUIET)$(CC) $(ALL_LDFLAGS) -o $@ $< $(ARCHIVE) $(LIBS)

.PHONY: help
help: ## this list
	@echo "make TARGET, where TARGET is one of:"
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo "BUILD=debug|asan|tsan|cover|fuzz and CC=clang choose another build."

.PHONY: debug asan
debug: ## the debug build, warnings are errors: build/debug/rowferry
	@$(MAKE) BUILD=debug
asan: ## the build under AddressSanitizer and UBSan: build/asan/rowferry
	@$(MAKE) BUILD=asan

.PHONY: deps deps-demo deps-test
deps: ## install what the build and the tests need (Debian packages)
	@sh tools/deps.sh build test lint bench
deps-demo:
	@sh tools/deps.sh build demo
deps-test:
	@sh tools/deps.sh build test lint

.PHONY: demo
demo: deps-demo ## the first minutes of a new user, from nothing to a finished file
	@echo "demo: building"
	@$(MAKE) --no-print-directory --silent all
	@sh tools/demo.sh build/rowferry

.PHONY: test
test: deps-test ## everything: checks, both compilers, unit tests under sanitizers, stories, kills
	@bash tools/test.sh

.PHONY: units unit fuzzers replay story chaos fuzz
units: $(UNITS)
# They need what only test builds have (a clock that moves, allocations that fail).
ifeq ($(BUILD),release)
unit: ## unit and contract tests, a minute (BUILD=asan for the sanitizers)
	@$(MAKE) --no-print-directory BUILD=debug unit
else
unit: $(UNITS)
	@python=$$(sh tools/venv.sh test/story/requirements.txt) && \
		$$python test/harness/postgres.py -- $$python test/harness/s3.py -- sh tools/run-units.sh $(UNITS)
endif
story: all ## the whole service, over the wire (STORY=test/story/test_seed.py for one)
	@bash tools/story.sh $(STORY)
chaos: all ## kill -9 at random moments, ROUNDS=200; a store behind a bad link, EXPORTS=300
	@ROUNDS=$(ROUNDS) EXPORTS=$(EXPORTS) bash tools/story.sh test/chaos
fuzzers: $(FUZZERS)
replay: ## the kept corpus through every fuzz target, once
	@$(MAKE) --no-print-directory BUILD=fuzz fuzzers
	@bash tools/fuzz.sh replay
fuzz: ## every parser for SECONDS=60; findings go into the corpus
	@$(MAKE) --no-print-directory BUILD=fuzz fuzzers
	@SECONDS_EACH=$(SECONDS) bash tools/fuzz.sh run

.PHONY: bench bench-quick
bench: all ## rowferry and its peers in one run: ratios, peak memory
	@sh tools/deps.sh build test bench
	@bash bench/run.sh
bench-quick: all ## the same in a few minutes
	@sh tools/deps.sh build test bench
	@QUICK=1 bash bench/run.sh

OURS := $(shell find src test bench -name '*.[ch]' 2>/dev/null)
.PHONY: format format-check layers lint tidy docs docs-check ready
format: ## clang-format everything
	@$(CLANG_FORMAT) -i $(OURS)
format-check:
	@$(CLANG_FORMAT) --dry-run -Werror $(OURS) && echo "format: good"
layers: ## who may include whom (docs/layers.txt)
	@awk -f tools/check-layers.awk docs/layers.txt $(shell find src -name '*.[ch]') && echo "layers: good"
	@sh tools/check-banned.sh && echo "banned calls: none"
tidy: ## clang-tidy, a file a process (in one process its va_list check remembers too much)
	@printf '%s\n' $(SOURCES) | xargs -P "$$(nproc)" -I FILE $(CLANG_TIDY) --quiet FILE -- -std=c17 $(INCLUDES) -D_GNU_SOURCE 2>/dev/null && echo "tidy: good"
lint: format-check layers tidy ## format, layers, banned calls, clang-tidy
docs: all ## print the reference documents
	@sh tools/docs.sh docs/reference
docs-check: all
	@mkdir -p build/reference && sh tools/docs.sh build/reference && diff -r docs/reference build/reference && echo "docs: as printed by the program"
ready: lint docs-check ## what stands before a commit
	@$(MAKE) --no-print-directory BUILD=asan unit

PREFIX ?= /usr/local
.PHONY: install
install: all ## PREFIX=/usr/local, DESTDIR honoured
	install -D -m 755 build/rowferry $(DESTDIR)$(PREFIX)/bin/rowferry
	install -D -m 644 etc/rowferry.yaml $(DESTDIR)$(PREFIX)/share/rowferry/rowferry.yaml
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	sed 's|/usr/local|$(PREFIX)|g' etc/rowferry.service > $(DESTDIR)$(PREFIX)/lib/systemd/system/rowferry.service
	chmod 644 $(DESTDIR)$(PREFIX)/lib/systemd/system/rowferry.service

.PHONY: clean
clean: ## remove what was built
	rm -rf build

-include $(shell find $(O) -name '*.d' 2>/dev/null)
