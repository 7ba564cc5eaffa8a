// The command line is a contract: every command's flags, their defaults and what they take.
#include "launcher/flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "base/file.h"
#include "launcher/command.h"
#include "launcher/validators.h"

namespace trireme {
namespace {

// To change the contract on purpose: TRIREME_WRITE_GOLDEN=1 build/tests/launcher/launcher_test
TEST(Flags, AreThoseOfTheGolden) {
  std::string flags;
  for (const CommandEntry& entry : Commands()) {
    std::unique_ptr<Command> command = entry.make();
    std::unique_ptr<CLI::App> app = MakeParser(entry, *command);
    flags += StrCat(entry.name, "\n");
    for (const CLI::Option* option : app->get_options()) {
      const std::string name =
          option->get_positional() ? option->get_name(true) : "--" + option->get_lnames().front();
      flags += StrCat("  ", name, " ", option->get_type_name(),
                      option->get_default_str().empty() ? "" : " = ", option->get_default_str(),
                      option->get_required() ? " required" : "", "\n");
    }
  }
  const std::string path = std::string(TRIREME_SOURCE_DIR) + "/tests/golden/cli/flags.txt";
  if (getenv("TRIREME_WRITE_GOLDEN")) {
    ASSERT_TRUE(WriteFile(path, flags).ok());
  }
  EXPECT_EQ(flags, ReadFile(path).value_or("no golden"));
}

// What the flags of a worker become once they went through the command line that serve writes.
ReplicaOptions ThroughArguments(const std::vector<std::string>& given) {
  auto parse = [](std::vector<std::string> arguments) {
    ReplicaFlags flags;
    CLI::App app;
    flags.Add(app, ReplicaFlags::Model::kRequired);
    std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
    app.parse(arguments);
    return flags;
  };
  return parse(parse(given).Arguments()).Options();
}

TEST(ReplicaFlags, AWorkerGetsEveryFlagThatServeGot) {
  const ReplicaOptions options = ThroughArguments({"--model",
                                                   "dir with blanks",
                                                   "--tp",
                                                   "3",
                                                   "--pp",
                                                   "2",
                                                   "--sequence-parallel",
                                                   "--dtype",
                                                   "bf16",
                                                   "--activations",
                                                   "bf16",
                                                   "--threads",
                                                   "5",
                                                   "--kv-cache-bytes",
                                                   "3M",
                                                   "--max-batch-tokens",
                                                   "77",
                                                   "--max-rows",
                                                   "9",
                                                   "--context-length",
                                                   "99",
                                                   "--no-prefix-cache",
                                                   "--no-avx512"});
  EXPECT_EQ(options.model_dir, "dir with blanks");
  EXPECT_EQ(options.layout.tp, 3);
  EXPECT_EQ(options.layout.pp, 2);
  EXPECT_EQ(options.layout.sequence_parallel, SequenceParallel::kOn);
  EXPECT_EQ(options.dtype, DType::kBF16);
  EXPECT_EQ(options.activations, DType::kBF16);
  EXPECT_EQ(options.threads, 5);
  EXPECT_EQ(options.kv_cache_bytes, 3 << 20);
  EXPECT_EQ(options.max_batch_tokens, 77);
  EXPECT_EQ(options.max_rows, 9);
  EXPECT_EQ(options.context_length, 99);
  EXPECT_FALSE(options.prefix_cache);
  EXPECT_FALSE(options.avx512);
}

TEST(ReplicaFlags, WhatIsNotSaidStaysUnsaid) {
  const ReplicaOptions options = ThroughArguments({"--model", "d"});
  EXPECT_EQ(options.dtype, std::nullopt);
  EXPECT_EQ(options.layout.sequence_parallel, SequenceParallel::kAuto);
  EXPECT_TRUE(options.prefix_cache);
}

TEST(Validators, SaysWhatWasExpected) {
  auto check = [](const CLI::Validator& validator, std::string text) {
    const std::string error = validator(text);
    return error.empty() ? "= " + text : error;
  };
  EXPECT_EQ(check(AtLeast(1), "7"), "= 7");
  for (const char* bad : {"0", "-1", "x", "", "1.5", "3000000000"}) {
    EXPECT_EQ(check(AtLeast(1), bad),
              std::string("expected a whole number, at least 1, not ") + bad);
  }
  EXPECT_EQ(check(Size(), "123"), "= 123");
  EXPECT_EQ(check(Size(), "2K"), "= 2048");
  EXPECT_EQ(check(Size(), "3T"), "= 3298534883328");
  for (const char* bad : {"", "G", "-1", "1.5G", "4GB", "9999999999G"}) {
    EXPECT_EQ(check(Size(), bad),
              std::string("expected bytes such as 1048576, 512M or 4G, not ") + bad);
  }
  EXPECT_EQ(check(OneOf({"a", "b"}), "c"), "expected a, b, not c");
}

TEST(EnvironmentName, UpperCaseWithUnderscores) {
  EXPECT_EQ(EnvironmentName("kv-cache-bytes"), "TRIREME_KV_CACHE_BYTES");
}

}  // namespace
}  // namespace trireme
