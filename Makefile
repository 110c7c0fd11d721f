# rowferry: `make help` is the door.

BUILD ?= release
CC ?= gcc
CLANG_FORMAT ?= clang-format-14
CLANG_TIDY ?= clang-tidy-14
O := build/$(BUILD)

WARNINGS := -Wall -Wextra -Wshadow -Wconversion -Wpointer-arith -Wformat=2 -Wundef -Wvla \
            -Wstrict-prototypes -Wmissing-prototypes -Wwrite-strings -Wcast-qual

# A flag goes in where the compiler knows it.
knows = $(shell $(CC) -Werror $(1) -c -x c /dev/null -o /dev/null 2>/dev/null && echo $(1))

COMMIT := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
LLHTTP := /usr/share/llhttp
INCLUDES := -Isrc -I. -isystem /usr/share/include/llhttp
LIBS := -ljansson -lyaml -lsqlite3 -lcurl -lssl -lcrypto -lm -lpthread

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
PROGRAM := $(if $(filter release,$(BUILD)),build/rowferry,$(O)/rowferry)
UNIT_SOURCES := $(sort $(shell find test/unit test/contract -name '*_test.c' 2>/dev/null))
UNITS := $(UNIT_SOURCES:%.c=$(O)/%)
FUZZ_SOURCES := $(sort $(wildcard test/fuzz/*_fuzz.c))
FUZZERS := $(FUZZ_SOURCES:%.c=$(O)/%)

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.PHONY: all
all: $(PROGRAM) ## the release build, build/rowferry (BUILD=debug, asan, tsan, cover, fuzz for others)

$(PROGRAM): $(O)/src/main.o $(ARCHIVE)
	$(CC) $(ALL_LDFLAGS) -o $@ $(O)/src/main.o $(ARCHIVE) $(LIBS)

$(ARCHIVE): $(filter-out $(O)/src/main.o,$(OBJECTS)) $(LLHTTP_OBJECTS)
	@rm -f $@
	ar rcs $@ $^

$(O)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -c -o $@ $<

$(O)/src/base/version.o $(O)/src/cli/cli.o: ALL_CFLAGS += -DROWFERRY_COMMIT='"$(COMMIT)"'

$(O)/gen/types.c: $(wildcard types/*.yaml) tools/embed.awk
	@mkdir -p $(@D)
	awk -f tools/embed.awk $(sort $(wildcard types/*.yaml)) /dev/null > $@

$(O)/gen/types.o: $(O)/gen/types.c
	$(CC) $(ALL_CFLAGS) -c -o $@ $<

# Not ours, so without our warnings; strict as dependencies.md says.
$(O)/llhttp/%.o: $(LLHTTP)/%.c
	@mkdir -p $(@D)
	$(CC) $(INCLUDES) $(CFLAGS_$(BUILD)) -w -DLLHTTP_STRICT_MODE=1 -c -o $@ $<

$(O)/test/unit/%_test: $(O)/test/unit/%_test.o $(ARCHIVE)
	$(CC) $(ALL_LDFLAGS) -o $@ $< $(ARCHIVE) $(LIBS) -lcmocka

$(O)/test/contract/%_test: $(O)/test/contract/%_test.o $(ARCHIVE)
	$(CC) $(ALL_LDFLAGS) -o $@ $< $(ARCHIVE) $(LIBS) -lcmocka

$(O)/test/fuzz/%_fuzz: $(O)/test/fuzz/%_fuzz.o $(ARCHIVE)
	$(CC) $(ALL_LDFLAGS) -o $@ $< $(ARCHIVE) $(LIBS)

.PHONY: unit
unit: $(UNITS) ## unit and contract tests, in seconds (BUILD=asan for the sanitizers)
	@sh tools/run-units.sh $(UNITS)

.PHONY: clean
clean: ## remove what was built
	rm -rf build

-include $(shell find build/$(BUILD) -name '*.d' 2>/dev/null)
