// Linked with the instrumented kernels and a gtest program. TRIREME_MUTANT=ID breaks one place.
// TRIREME_MUTANTS_REACHED=FILE: which places each test case runs, a line `SUITE.CASE MS ID…` each.
#include "switch.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "gtest/gtest.h"

namespace mutation {

const int chosen = [] {
  const char* id = std::getenv("TRIREME_MUTANT");
  return id != nullptr ? std::atoi(id) : 0;
}();
unsigned char reached[MUTANTS + 1];

namespace {

class Recorder : public testing::EmptyTestEventListener {
 public:
  explicit Recorder(const char* file) : file_(std::fopen(file, "w")) {}
  void OnTestStart(const testing::TestInfo&) override { std::memset(reached, 0, sizeof reached); }
  void OnTestEnd(const testing::TestInfo& test) override {
    std::fprintf(file_, "%s.%s %d", test.test_suite_name(), test.name(),
                 static_cast<int>(test.result()->elapsed_time()));
    for (int id = 1; id <= MUTANTS; ++id) {
      if (reached[id] != 0) std::fprintf(file_, " %d", id);
    }
    std::fprintf(file_, "\n");
    std::fflush(file_);
  }

 private:
  std::FILE* file_;
};

[[maybe_unused]] const bool recording = [] {
  const char* file = std::getenv("TRIREME_MUTANTS_REACHED");
  if (file != nullptr) {
    testing::UnitTest::GetInstance()->listeners().Append(new Recorder(file));
  }
  return file != nullptr;
}();

}  // namespace
}  // namespace mutation
