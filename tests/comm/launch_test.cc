#include "comm/launch.h"

#include <map>

#include "gtest/gtest.h"

namespace trireme {
namespace {

int Launched(const std::map<std::string, std::string>& env) {
  return LaunchedRanks([&](const char* name) -> const char* {
    const auto found = env.find(name);
    return found == env.end() ? nullptr : found->second.c_str();
  });
}

TEST(LaunchTest, MpirunAndSrunAreSeen) {
  EXPECT_EQ(Launched({}), 1);
  EXPECT_EQ(Launched({{"OMPI_COMM_WORLD_SIZE", "4"}}), 4);
  EXPECT_EQ(Launched({{"PMI_SIZE", "2"}, {"PMI_RANK", "1"}}), 2);
  EXPECT_EQ(Launched({{"SLURM_STEP_NUM_TASKS", "8"}, {"SLURM_NTASKS", "8"}}), 8);
}

TEST(LaunchTest, ABatchScriptIsNoRank) {
  EXPECT_EQ(Launched({{"SLURM_NTASKS", "8"}, {"SLURM_PROCID", "0"}}), 1);
}

TEST(LaunchTest, MpirunInsideAnAllocationCountsItsOwnRanks) {
  EXPECT_EQ(Launched({{"SLURM_STEP_NUM_TASKS", "4"}, {"OMPI_COMM_WORLD_SIZE", "1"}}), 1);
}

TEST(LaunchTest, NonsenseIsIgnored) {
  EXPECT_EQ(Launched({{"OMPI_COMM_WORLD_SIZE", ""}, {"PMI_SIZE", "x"}}), 1);
}

}  // namespace
}  // namespace trireme
