# The commands people type. Each does the set-up it needs; run again, it skips what is done.
.PHONY: help setup build cuda bundle emulated demo test soak mutants bench format clean
.DEFAULT_GOAL := help

help:
	@echo 'make build   the release binary, build/trireme'
	@echo 'make cuda    the program for GPUs, build/cuda/trireme (needs the CUDA toolkit)'
	@echo 'make bundle  the same as a folder to take along, build/bundle/trireme.tar.xz'
	@echo 'make emulated  the program with an emulated CUDA device, build/emulated/trireme'
	@echo 'make demo    serve the bundled model on 2 tensor-parallel ranks and stream a completion'
	@echo 'make test    every test; the last line is "N passed, N failed, N skipped"'
	@echo 'make soak    what takes longer: sanitizers, fuzzing, long property tests, the nvcc build'
	@echo 'make mutants  breaks the controller core and the CUDA kernels one line at a time; tests must notice'
	@echo 'make bench   kernels, collectives and the engine on this machine'
	@echo 'make format  clang-format over the C++ sources'
	@echo 'make clean   removes build/'

setup:
	@scripts/setup

# Once configured, ninja runs CMake again by itself where a CMake file changed.
build/build.ninja: | setup
	@cmake --preset release >build-configure.log 2>&1 && rm build-configure.log || \
	  { cat build-configure.log; rm build-configure.log; exit 1; }

build: build/build.ninja
	@ninja -C build trireme

cuda: setup
	@cmake --preset cuda >build-configure.log 2>&1 && rm build-configure.log || \
	  { cat build-configure.log; rm build-configure.log; exit 1; }
	@ninja -C build/cuda trireme

bundle: setup
	@scripts/bundle

emulated: build/build.ninja
	@ninja -C build trireme_emulated

demo: build
	@scripts/demo

test: build/build.ninja
	@ninja -C build
	@scripts/run-tests build

soak: setup
	@scripts/soak

mutants: build/build.ninja
	@ninja -C build controller_test && scripts/mutate-controller
	@cmake --preset asan >/dev/null
	@for build in build build/asan; do \
	  ninja -C $$build cuda_linear_test cuda_attention_test cuda_ops_test || exit 1; done
	@scripts/mutate-kernels --build build --build build/asan --jobs $$(nproc)

bench: build
	@build/trireme bench kernels
	@build/trireme bench comm
	@build/trireme bench engine --shape tinyllama-1.1b --dtype bf16

format: setup
	@git ls-files -z '*.cc' '*.h' | xargs -0 clang-format -i

clean:
	@rm -rf build
