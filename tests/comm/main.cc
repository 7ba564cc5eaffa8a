// One binary for all ways to be a world: under mpirun only the cases over a world are run, by every
// rank together.
#include <cstdio>

#include "comm/launch.h"
#include "gtest/gtest.h"
#include "tests/comm/ranks.h"

namespace {

// Ranks beside the first one print their failures only.
class FailurePrinter : public testing::EmptyTestEventListener {
 public:
  explicit FailurePrinter(int rank) : rank_(rank) {}

 private:
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    std::fprintf(stderr, "rank %d: %s:%d: %s\n", rank_, result.file_name(), result.line_number(),
                 result.summary());
  }
  int rank_;
};

int RunUnderMpi() {
  auto world = trireme::MakeMpiWorld();
  if (!world.ok()) {
    std::fprintf(stderr, "%s\n", trireme::Message(world.status()).c_str());
    return 1;
  }
  (*world)->Reserve(trireme::TestOptions());
  trireme::SetMpiTestWorld(world->get());
  testing::GTEST_FLAG(filter) = "Ranks/*";
  if ((*world)->rank() != 0) {
    auto& listeners = testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new FailurePrinter((*world)->rank()));
  }
  return RUN_ALL_TESTS();
}

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  return trireme::LaunchedByMpi() ? RunUnderMpi() : RUN_ALL_TESTS();
}
