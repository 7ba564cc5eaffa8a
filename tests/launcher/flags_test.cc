// The command line is a contract: every command's flags, their defaults and what they take.
#include "launcher/flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <map>

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
                                                   "--comm",
                                                   "staged",
                                                   "--exact",
                                                   "--threads",
                                                   "5",
                                                   "--kv-cache-bytes",
                                                   "3M",
                                                   "--gpu-memory-utilization",
                                                   "0.5",
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
  EXPECT_EQ(options.comm, CommKind::kStaged);
  EXPECT_TRUE(options.exact);
  EXPECT_EQ(options.threads, 5);
  EXPECT_EQ(options.kv_cache_bytes, 3 << 20);
  EXPECT_EQ(options.gpu_memory_utilization, 0.5);
  EXPECT_EQ(options.max_batch_tokens, 77);
  EXPECT_EQ(options.max_rows, 9);
  EXPECT_EQ(options.context_length, 99);
  EXPECT_FALSE(options.prefix_cache);
  EXPECT_FALSE(options.avx512);
}

TEST(ReplicaFlags, WhatIsNotSaidStaysUnsaid) {
  const ReplicaOptions options = ThroughArguments({"--model", "d"});
  EXPECT_EQ(options.dtype, std::nullopt);
  EXPECT_EQ(options.activations, std::nullopt);
  EXPECT_EQ(options.layout.sequence_parallel, SequenceParallel::kAuto);
  EXPECT_EQ(options.comm, CommKind::kAuto);
  EXPECT_FALSE(options.exact);
  EXPECT_TRUE(options.prefix_cache);
}

TEST(Validators, SaysWhatWasExpected) {
  auto check = [](const CLI::Validator& validator, std::string text) {
    const std::string error = validator(text);
    return error.empty() ? "= " + text : error;
  };
  for (const char* good : {"0.9", "1", "1e-3"}) EXPECT_EQ(check(Share(), good), StrCat("= ", good));
  for (const char* bad : {"0", "1.01", "-0.5", "x", "nan"}) {
    EXPECT_EQ(check(Share(), bad), StrCat("expected a number above 0, at most 1, not ", bad));
  }
  EXPECT_EQ(check(AtLeast(1), "7"), "= 7");
  EXPECT_EQ(check(AtLeast(1), "010"), "= 10");
  for (const char* bad : {"0", "-1", "x", "1.5", "0x10", "-3000000000"}) {
    EXPECT_EQ(check(AtLeast(1), bad),
              std::string("expected a whole number, at least 1, not ") + bad);
  }
  EXPECT_EQ(check(AtLeast(1), ""), "expected a whole number, at least 1, not an empty text");
  EXPECT_EQ(check(AtLeast(1), "3000000000"),
            "expected a whole number, at most 2147483647, not 3000000000");
  EXPECT_EQ(check(Whole<int32_t>(), "x"), "expected a whole number, not x");
  EXPECT_EQ(check(Whole<int32_t>(), "-3000000000"),
            "expected a whole number, at least -2147483648, not -3000000000");
  EXPECT_EQ(check(Whole<uint64_t>(), "18446744073709551615"), "= 18446744073709551615");
  EXPECT_EQ(check(Whole<uint64_t>(), "18446744073709551616"),
            "expected a whole number, at most 18446744073709551615, not 18446744073709551616");
  EXPECT_EQ(check(Whole<uint64_t>(), "-1"), "expected a whole number, at least 0, not -1");
  for (const char* good : {"0", "-0.5", "1e-3", "nan", "inf"}) {
    EXPECT_EQ(check(Number(), good), std::string("= ") + good);
  }
  for (const char* bad : {"x", "1,5", "1e99", "0.5x"}) {
    EXPECT_EQ(check(Number(), bad), std::string("expected a number, not ") + bad);
  }
  EXPECT_EQ(check(Seconds(), "0.2"), "= 0.2");
  EXPECT_EQ(check(Seconds(), "30s"), "= 30");
  EXPECT_EQ(check(Seconds(), "500ms"), "= 0.5");
  EXPECT_EQ(check(Seconds(), "2m"), "= 120");
  EXPECT_EQ(check(Seconds(), "1.5h"), "= 5400");
  for (const char* bad : {"0", "-1", "nan", "inf", "1e9", "9000h", "s", "2d", "3 s"}) {
    EXPECT_EQ(check(Seconds(), bad),
              std::string("expected a time above 0 and below a year, such as 30s, 500ms or 2m, "
                          "not ") +
                  bad);
  }
  EXPECT_EQ(check(ListOf(AtLeast(1)), "1,02,3"), "= 1,2,3");
  EXPECT_EQ(check(ListOf(AtLeast(1)), "1,x"),
            "expected a whole number, at least 1, not x (in 1,x)");
  EXPECT_EQ(check(ListOf(AtLeast(1)), "1,,2"),
            "expected a whole number, at least 1, not an empty text (in 1,,2)");
  EXPECT_EQ(check(Size(), "123"), "= 123");
  EXPECT_EQ(check(Size(), "2K"), "= 2048");
  EXPECT_EQ(check(Size(), "3T"), "= 3298534883328");
  for (const char* bad : {"G", "-1", "1.5G", "4GB", "9999999999G"}) {
    EXPECT_EQ(check(Size(), bad),
              std::string("expected bytes such as 1048576, 512M or 4G, not ") + bad);
  }
  EXPECT_EQ(check(OneOf({"a", "b"}), "c"), "expected a, b, not c");
}

// No flag is left to CLI11's own conversions.
TEST(Validators, EveryNumberAndAddressIsChecked) {
  const std::map<std::string, std::vector<std::string>> bad = {
      {"N", {"", "abc", "0x10", "99999999999999999999999"}},
      {"X", {"", "abc", "1e999"}},
      {"S", {"", "abc", "-1"}},
      {"TIME", {"", "abc", "-1"}},
      {"TOKENS", {"", "abc", "0", "9..8", "1..", "..2", "1...2"}},
      {"RATES", {"", "abc", "0", "1,-2", "nan"}},
      {"LIMITS", {"", "abc", "ttft:", "ttft:0s", "speed:1s", "ttft:1s,,tbt:1s"}},
      {"SIZE", {"", "abc", "-1", "99999999999999999999999"}},
      {"IDS", {"", "abc", "1,,2", ",", "1,99999999999"}},
      {"LIST", {"", "abc", "1,,2", ",", "1,99999999999"}},
      {"HOST:PORT", {"", "abc", "127.0.0.1:99999", "127.0.0.1:-1"}}};
  int n_flags = 0;
  for (const CommandEntry& entry : Commands()) {
    std::unique_ptr<Command> command = entry.make();
    std::unique_ptr<CLI::App> app = MakeParser(entry, *command);
    for (const CLI::Option* option : app->get_options()) {
      const auto texts = bad.find(option->get_type_name());
      if (texts == bad.end()) continue;
      n_flags++;
      for (const std::string& text : texts->second) {
        const std::string flag = "--" + option->get_lnames().front();
        std::vector<std::string> arguments = {text, flag};  // reversed
        try {
          app->parse(arguments);
          ADD_FAILURE() << entry.name << " takes " << flag << " '" << text << "'";
        } catch (const CLI::Error& error) {
          EXPECT_THAT(error.what(), testing::MatchesRegex(".*: expected .* not .*")) << flag;
          EXPECT_THAT(error.what(), testing::HasSubstr(text)) << flag;
        }
      }
    }
  }
  EXPECT_GT(n_flags, 40);
}

TEST(EnvironmentName, UpperCaseWithUnderscores) {
  EXPECT_EQ(EnvironmentName("kv-cache-bytes"), "TRIREME_KV_CACHE_BYTES");
}

}  // namespace
}  // namespace trireme
