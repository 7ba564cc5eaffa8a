#include "comm/launch.h"

#include <map>

#include "gtest/gtest.h"

namespace trireme {
namespace {

using Variables = std::map<std::string, std::string>;

std::function<const char*(const char*)> In(const Variables& env) {
  return [&env](const char* name) -> const char* {
    const auto found = env.find(name);
    return found == env.end() ? nullptr : found->second.c_str();
  };
}

int Launched(const Variables& env) { return LaunchedRanks(In(env)); }
int Rank(const Variables& env) { return LaunchedRank(In(env)); }

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

TEST(LaunchTest, ARankKnowsItsNumber) {
  EXPECT_EQ(Rank({}), 0);
  EXPECT_EQ(Rank({{"OMPI_COMM_WORLD_SIZE", "4"}, {"OMPI_COMM_WORLD_RANK", "3"}}), 3);
  EXPECT_EQ(Rank({{"PMI_SIZE", "2"}, {"PMI_RANK", "1"}}), 1);
  EXPECT_EQ(Rank({{"SLURM_STEP_NUM_TASKS", "8"}, {"SLURM_PROCID", "5"}}), 5);
  EXPECT_EQ(Rank({{"SLURM_PROCID", "5"}}), 0);
  EXPECT_EQ(Rank({{"SLURM_STEP_NUM_TASKS", "8"},
                  {"SLURM_PROCID", "5"},
                  {"OMPI_COMM_WORLD_SIZE", "4"},
                  {"OMPI_COMM_WORLD_RANK", "3"}}),
            3);
}

TEST(LaunchTest, NonsenseIsIgnored) {
  EXPECT_EQ(Launched({{"OMPI_COMM_WORLD_SIZE", ""}, {"PMI_SIZE", "x"}}), 1);
}

}  // namespace
}  // namespace trireme
