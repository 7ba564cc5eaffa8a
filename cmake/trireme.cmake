# How every target of Trireme is made: explicit sources, explicit dependencies, the same flags.

find_package(Threads REQUIRED)
find_package(absl REQUIRED)
find_package(Protobuf REQUIRED)
find_package(gRPC CONFIG REQUIRED)
find_package(spdlog REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(Boost 1.81 REQUIRED)  # Beast: headers alone
find_package(OpenSSL REQUIRED)
find_package(prometheus-cpp REQUIRED)
find_package(CLI11 REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
pkg_check_modules(HWY REQUIRED IMPORTED_TARGET libhwy)
set(MPI_CXX_SKIP_MPICXX ON)
find_package(MPI REQUIRED COMPONENTS C)

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()

add_library(trireme_flags INTERFACE)
target_include_directories(trireme_flags INTERFACE
  ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR}/gen)
# -ffp-contract=off: a result must not depend on where the compiler fuses a multiply and an add.
set(flags -Wall -Wextra -Werror -Wno-missing-field-initializers -ffp-contract=off
  -fno-omit-frame-pointer -ffile-prefix-map=${PROJECT_SOURCE_DIR}/=)
list(JOIN flags "," host_flags)
target_compile_options(trireme_flags INTERFACE
  "$<$<COMPILE_LANGUAGE:C,CXX>:${flags}>" "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=${host_flags}>")
target_link_libraries(trireme_flags INTERFACE Threads::Threads)
# Ranks compare it at start.
target_link_options(trireme_flags INTERFACE -Wl,--build-id=sha1)
if(TRIREME_SANITIZE)
  target_compile_options(trireme_flags INTERFACE -fsanitize=${TRIREME_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(trireme_flags INTERFACE -fsanitize=${TRIREME_SANITIZE})
  # GCC sees uninitialised members of variants through AddressSanitizer's instrumentation that are none.
  if(TRIREME_SANITIZE MATCHES address AND CMAKE_CXX_COMPILER_ID STREQUAL GNU)
    target_compile_options(trireme_flags INTERFACE -Wno-maybe-uninitialized)
  endif()
endif()

# trireme_library(NAME SRCS a.cc … DEPS other trireme libraries … LIBS packages' targets …)
function(trireme_library name)
  cmake_parse_arguments(A "" "" "SRCS;DEPS;LIBS" ${ARGN})
  add_library(trireme_${name} STATIC ${A_SRCS})
  list(TRANSFORM A_DEPS PREPEND trireme_)
  target_link_libraries(trireme_${name} PUBLIC ${A_DEPS} ${A_LIBS} trireme_flags)
endfunction()

# trireme_test(NAME SRCS a_test.cc … DEPS … [LIBS …] [LABELS …]): one binary, one ctest per case.
function(trireme_test name)
  cmake_parse_arguments(A "" "" "SRCS;DEPS;LIBS;LABELS" ${ARGN})
  find_package(GTest REQUIRED)
  include(GoogleTest)
  add_executable(${name}_test ${A_SRCS})
  list(TRANSFORM A_DEPS PREPEND trireme_)
  target_link_libraries(${name}_test PRIVATE ${A_DEPS} ${A_LIBS} GTest::gmock GTest::gtest_main trireme_flags)
  target_compile_definitions(${name}_test PRIVATE
    TRIREME_SOURCE_DIR="${PROJECT_SOURCE_DIR}" TRIREME_BINARY_DIR="${PROJECT_BINARY_DIR}")
  if(NOT A_LABELS)
    set(A_LABELS unit)
  endif()
  gtest_discover_tests(${name}_test TEST_PREFIX ${name}. DISCOVERY_TIMEOUT 60
    PROPERTIES LABELS "${A_LABELS}" TIMEOUT 300)
endfunction()

# trireme_fuzz(NAME SRCS … DEPS …): NAME_fuzz, a libFuzzer binary in the fuzz preset; elsewhere it
# replays the corpus. Either way one ctest runs it over tests/fuzz/corpus/NAME.
add_custom_target(fuzzers)
function(trireme_fuzz name)
  cmake_parse_arguments(A "" "" "SRCS;DEPS;LIBS" ${ARGN})
  list(TRANSFORM A_DEPS PREPEND trireme_)
  add_executable(${name}_fuzz ${A_SRCS})
  target_link_libraries(${name}_fuzz PRIVATE ${A_DEPS} ${A_LIBS} trireme_flags)
  if(TRIREME_FUZZ)
    target_link_options(${name}_fuzz PRIVATE -fsanitize=fuzzer)
    set(replay -runs=0)
  else()
    target_sources(${name}_fuzz PRIVATE ${PROJECT_SOURCE_DIR}/tests/fuzz/replay.cc)
    target_link_libraries(${name}_fuzz PRIVATE trireme_base)
  endif()
  add_dependencies(fuzzers ${name}_fuzz)
  add_test(NAME fuzz.${name}.corpus
    COMMAND ${name}_fuzz ${replay} ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/${name})
  set_tests_properties(fuzz.${name}.corpus PROPERTIES LABELS fuzz TIMEOUT 300)
endfunction()

# Subdirectories that exist: a part can be worked on before its neighbours are there.
function(trireme_subdirectories)
  foreach(dir ${ARGN})
    if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${dir}/CMakeLists.txt)
      add_subdirectory(${dir})
    endif()
  endforeach()
endfunction()
