#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "base/build_id.h"
#include "base/check.h"
#include "base/file.h"
#include "base/str.h"

namespace trireme {
namespace {

std::string TempPath(const std::string& name) { return testing::TempDir() + "/" + name; }

TEST(FileTest, WritesAndReadsBack) {
  const std::string path = TempPath("base_test_file");
  ASSERT_TRUE(WriteFile(path, "hello").ok());
  EXPECT_EQ(*ReadFile(path), "hello");
  ASSERT_TRUE(WriteFile(path, "").ok());
  EXPECT_EQ(*ReadFile(path), "");
  std::filesystem::remove(path);
}

TEST(FileTest, ErrorsNameThePathAndTheReason) {
  const auto missing = ReadFile("/nowhere/file");
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Message(missing.status()), "/nowhere/file: cannot open: No such file or directory");
  EXPECT_EQ(Message(ReadFile("/").status()), "/: expected a regular file");
}

TEST(FileTest, AFileThatShrankIsDataLoss) {
  const std::string path = TempPath("base_test_shrinks");
  ASSERT_TRUE(WriteFile(path, "0123456789").ok());
  auto file = RandomAccessFile::Open(path);
  ASSERT_TRUE(file.ok());
  std::filesystem::resize_file(path, 4);
  std::vector<std::byte> bytes(8);
  EXPECT_EQ((*file)->Read(2, bytes).code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE((*file)->Read(2, std::span(bytes).first(2)).ok());
  std::filesystem::remove(path);
}

TEST(BuildIdTest, IsASha1OfThisProgram) { EXPECT_EQ(BuildId().size(), 40u) << BuildId(); }

TEST(StrTest, JoinsSplitsAndParses) {
  EXPECT_EQ(StrCat("a", 1, std::string_view("b")), "a1b");
  EXPECT_EQ(Join(std::vector<int>{1, 2, 3}, ", "), "1, 2, 3");
  EXPECT_EQ(SplitString("a,,b", ','), (std::vector<std::string>{"a", "", "b"}));
  int value = 0;
  EXPECT_TRUE(ParseNumber("42", &value));
  EXPECT_EQ(value, 42);
  EXPECT_FALSE(ParseNumber("42x", &value));
  EXPECT_FALSE(ParseNumber("", &value));
}

TEST(CheckDeathTest, NamesTheConditionAndTheValues) {
  const int three = 3;
  EXPECT_DEATH(CHECK_EQ(three, 4) << "so many", "expected three == 4: 3 vs 4 so many");
  EXPECT_DEATH(CHECK(three > 4) << "no", "expected three > 4: no");
}

}  // namespace
}  // namespace trireme
