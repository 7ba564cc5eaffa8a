#include "server/keys.h"

#include <unistd.h>

#include "base/file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace trireme {
namespace {

using testing::HasSubstr;

std::string TempFile(const std::string& text) {
  const std::string path = StrCat(testing::TempDir(), "/keys-", getpid());
  EXPECT_TRUE(WriteFile(path, text).ok());
  return path;
}

// The tenant of the key, "(admin)" beside it; or why not.
std::string Check(KeyFile& file, const std::string& key) {
  const auto caller = file.Check(key);
  return caller.ok() ? caller->tenant + (caller->admin ? " (admin)" : "")
                     : Message(caller.status());
}

TEST(KeysTest, HashesAreSha256) {
  EXPECT_EQ(Sha256("abc"),  // FIPS 180-4's example
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(KeysTest, SecretsAreCompared) {
  EXPECT_TRUE(SameSecret("abc", "abc"));
  EXPECT_FALSE(SameSecret("abc", "abd"));
  EXPECT_FALSE(SameSecret("abc", "abcd"));
  EXPECT_FALSE(SameSecret("", "a"));
}

TEST(KeysTest, NewKeysDiffer) {
  EXPECT_NE(NewKey(), NewKey());
  EXPECT_GE(NewKey().size(), 64u);
}

TEST(KeysTest, AKeyIsItsTenants) {
  auto file =
      KeyFile::Open(TempFile(StrCat("# teams\n", "a ", Sha256("ka"), "\n\na ", Sha256("ka2"),
                                    "  # the next one\nops ", Sha256("ko"), " admin\n")));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(Check(**file, "ka"), "a");
  EXPECT_EQ(Check(**file, "ka2"), "a");
  EXPECT_EQ(Check(**file, "ko"), "ops (admin)");
  for (const char* wrong : {"kb", "", "KA", "ka "}) {
    EXPECT_EQ(Check(**file, wrong), "the API key is not known here") << wrong;
  }
  EXPECT_EQ((*file)->Check("kb").status().code(), absl::StatusCode::kUnauthenticated);
}

TEST(KeysTest, AFileThatIsWrongIsNamedByItsLine) {
  const std::string hash = Sha256("k");
  const std::vector<std::string> wrong = {
      "a",       "a " + hash.substr(1),      "a " + hash + " root", hash,
      "a b c d", "a " + std::string(64, 'X')};
  for (const std::string& line : wrong) {
    const auto file = KeyFile::Open(TempFile("a " + hash + "\n" + line + "\n"));
    EXPECT_THAT(Message(file.status()), HasSubstr("line 2: expected TENANT SHA256-OF-THE-KEY"))
        << line;
  }
  EXPECT_EQ(KeyFile::Open("/no/such/file").status().code(), absl::StatusCode::kNotFound);
}

TEST(KeysTest, AFileThatHasChangedIsReadAgain) {
  const std::string path = TempFile("a " + Sha256("one") + "\n");
  auto file = KeyFile::Open(path);
  const auto rewrite = [&](const std::string& text) {
    const auto before = std::filesystem::last_write_time(path);
    ASSERT_TRUE(WriteFile(path, text).ok());
    std::filesystem::last_write_time(path, before + std::chrono::seconds(1));
  };
  rewrite("a " + Sha256("two") + "\n");
  EXPECT_EQ(Check(**file, "two"), "a");
  EXPECT_EQ(Check(**file, "one"), "the API key is not known here");
  rewrite("nonsense\n");
  EXPECT_EQ(Check(**file, "two"), "a");  // the keys from before
}

TEST(KeysTest, ADoorkeeperAsksForAKeyWhereThereAreAny) {
  const Doorkeeper open(nullptr, "");
  EXPECT_TRUE(open.AdmitAdmin("").ok());
  EXPECT_TRUE(open.AdmitsReplica(""));
  auto file =
      KeyFile::Open(TempFile(StrCat("a ", Sha256("ka"), "\nops ", Sha256("ko"), " admin\n")));
  const Doorkeeper closed(*std::move(file), "secret");
  EXPECT_EQ(closed.Admit("Bearer ka")->tenant, "a");
  EXPECT_EQ(closed.AdmitAdmin("Bearer ka").code(), absl::StatusCode::kPermissionDenied);
  EXPECT_TRUE(closed.AdmitAdmin("Bearer ko").ok());
  for (const char* same : {"bearer ka", "BEARER ka", "Bearer   ka"}) {
    EXPECT_TRUE(closed.Admit(same).ok()) << same;
  }
  for (const char* wrong :
       {"", "ka", "Basic ka", "Bearer", "bearer ", "Bearerka", "Bearer kb", "bearer KA"}) {
    EXPECT_EQ(closed.Admit(wrong).status().code(), absl::StatusCode::kUnauthenticated) << wrong;
  }
  EXPECT_TRUE(closed.AdmitsReplica("secret"));
  EXPECT_FALSE(closed.AdmitsReplica(""));
  EXPECT_FALSE(closed.AdmitsReplica("secret2"));
}

}  // namespace
}  // namespace trireme
