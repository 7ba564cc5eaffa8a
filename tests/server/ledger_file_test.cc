// The ledger's file: what is written is read again; torn ends, foreign files, full disks.
#include "server/ledger_file.h"

#include <sys/resource.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "base/file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/scripted_replica.h"

namespace trireme {
namespace {

using absl::StatusCode;
using testing::HasSubstr;

class LedgerFileTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    dir_ = testing::TempDir() + "ledger_" + info->name();
    std::filesystem::remove_all(dir_);
    model_ = *registry_.Prepare(test::Info());
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  std::unique_ptr<LedgerFile> Open() {
    auto file = LedgerFile::Open(dir_, registry_, options_);
    EXPECT_TRUE(file.ok()) << file.status();
    return *std::move(file);
  }

  // A model, and a request with some ids of its second choice.
  std::vector<LedgerRecord> Records() const {
    RequestRecord request{.key = 7,
                          .tenant = "t",
                          .weight = 2.5,
                          .request_id = "r",
                          .digest = std::string("\0\xff", 2),
                          .model = "tiny",
                          .n = 2,
                          .stops = {"stop", "é"},
                          .arrived = std::chrono::steady_clock::now() - std::chrono::seconds(5),
                          .detach = true,
                          .keep = std::chrono::seconds(60)};
    request.deadline = request.arrived + std::chrono::seconds(30);
    request.sequence.prompt_ids = {1, 2, 3};
    request.sequence.max_tokens = 9;
    request.sequence.penalties.presence = 0.5f;
    request.sequence.logit_bias = {{3, -1}};
    request.sequence.sampling = {.temperature = 0.5f, .top_k = 3, .seed = ~uint64_t{0}};
    const auto logprobs = [](int32_t id) { return test::LogprobsOf(id, 0); };
    return {ModelRecord{model_}, request,
            IdsRecord{7, 1, 0, {4, 5}, "f1", {logprobs(4), logprobs(5)}, {logprobs(2)}},
            IdsRecord{7, 1, 2, {6}, "f1", {logprobs(6)}},
            FinishedRecord{7, {.choice = 1, .reason = FinishReason::kStop, .stop_id = 4}}};
  }

  static std::string Bytes(const std::string& path) { return *ReadFile(path); }
  std::string path() const { return dir_ + "/ledger"; }

  std::string dir_;
  ModelRegistry registry_;
  ModelPtr model_;
  LedgerFileOptions options_;
};

TEST_F(LedgerFileTest, ReadsWhatWasWritten) {
  {
    auto file = Open();
    EXPECT_TRUE(file->TakeRecords().empty());
    ASSERT_TRUE(file->Rewrite({}).ok());
    file->Append(Records());
    EXPECT_TRUE(file->Ready().ok());
  }
  const auto records = Open()->TakeRecords();
  ASSERT_EQ(records.size(), 5u);
  const auto restored = Restore(records);
  ASSERT_EQ(restored.size(), 1u);
  const auto expected = std::get<RequestRecord>(Records()[1]);
  const RequestRecord& request = restored[0].request;
  EXPECT_EQ(request.tenant, "t");
  EXPECT_EQ(request.weight, 2.5);
  EXPECT_EQ(request.digest, expected.digest);
  EXPECT_EQ(request.stops, expected.stops);
  EXPECT_EQ(request.n, 2);
  EXPECT_TRUE(request.detach);
  EXPECT_EQ(request.keep, std::chrono::seconds(60));
  EXPECT_EQ(request.sequence.prompt_ids, expected.sequence.prompt_ids);
  EXPECT_EQ(request.sequence.sampling.seed, ~uint64_t{0});
  EXPECT_EQ(request.sequence.max_tokens, 9);
  EXPECT_EQ(request.sequence.penalties.presence, 0.5f);
  EXPECT_EQ(request.sequence.logit_bias, expected.sequence.logit_bias);
  EXPECT_NEAR(Seconds(std::chrono::steady_clock::now() - request.arrived), 5, 1);
  EXPECT_NEAR(Seconds(*request.deadline - request.arrived), 30, 0.01);
  const auto& choice = restored[0].choices.at(1);
  EXPECT_EQ(choice.ids, (std::vector<int32_t>{4, 5, 6}));
  EXPECT_EQ(choice.fingerprint, "f1");
  ASSERT_EQ(choice.logprobs.size(), 3u);
  EXPECT_EQ(choice.logprobs[2], test::LogprobsOf(6, 0));
  ASSERT_EQ(choice.prompt_logprobs.size(), 1u);
  EXPECT_EQ(choice.prompt_logprobs[0], test::LogprobsOf(2, 0));
  EXPECT_EQ(choice.finished->stop_id, 4);
  const ModelPtr model = std::get<ModelRecord>(records[0]).model;
  EXPECT_EQ(Difference(*model, *model_), "");
  EXPECT_NE(model->tokenizer, nullptr);
}

TEST_F(LedgerFileTest, ATornEndIsLeftOut) {
  {
    auto file = Open();
    ASSERT_TRUE(file->Rewrite({}).ok());
    file->Append(Records());
  }
  const std::string whole = Bytes(path());
  size_t most = 0;
  for (size_t size = 0; size <= whole.size(); ++size) {
    if (size > 64 && size + 200 < whole.size()) continue;  // inside of the tokenizer
    std::ofstream(path(), std::ios::binary | std::ios::trunc) << whole.substr(0, size);
    const size_t n = Open()->TakeRecords().size();
    EXPECT_GE(n, most);
    most = n;
  }
  EXPECT_EQ(most, 5u);

  std::string broken = whole;
  broken[broken.size() - 3] ^= 1;
  std::ofstream(path(), std::ios::binary | std::ios::trunc) << broken;
  EXPECT_EQ(Open()->TakeRecords().size(), 4u);
}

TEST_F(LedgerFileTest, GoesOnBehindWhatIsLeft) {
  {
    auto file = Open();
    ASSERT_TRUE(file->Rewrite({}).ok());
    file->Append(Records());
  }
  std::filesystem::resize_file(path(), Bytes(path()).size() - 1);
  {
    auto file = Open();
    ASSERT_TRUE(file->Rewrite(file->TakeRecords()).ok());
    file->Append(std::vector<LedgerRecord>{GoneRecord{7}});
  }
  const auto records = Open()->TakeRecords();
  EXPECT_EQ(records.size(), 5u);
  EXPECT_TRUE(Restore(records).empty());
}

TEST_F(LedgerFileTest, IsRewrittenWhereMostOfItIsOfThePast) {
  options_.rewrite_bytes = 1000;
  auto file = Open();
  ASSERT_TRUE(file->Rewrite({}).ok());
  EXPECT_FALSE(file->WantsRewrite());
  for (int i = 0; i < 200; ++i)
    file->Append(std::vector<LedgerRecord>{GoneRecord{7}, GoneRecord{8}});
  EXPECT_TRUE(file->WantsRewrite());
  ASSERT_TRUE(file->Rewrite(Records()).ok());
  EXPECT_FALSE(file->WantsRewrite());
  file->Append(std::vector<LedgerRecord>{GoneRecord{7}});
  file.reset();
  EXPECT_EQ(Open()->TakeRecords().size(), 6u);
}

TEST_F(LedgerFileTest, IsForOneControllerAndItsUser) {
  auto file = Open();
  ASSERT_TRUE(file->Rewrite({}).ok());
  const auto second = LedgerFile::Open(dir_, registry_);
  EXPECT_EQ(second.status().code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message(second.status()), HasSubstr("used by another controller"));
  struct stat about {};
  ASSERT_EQ(stat(dir_.c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 0777, 0700u);
  ASSERT_EQ(stat(path().c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 0777, 0600u);
  file.reset();
  ASSERT_EQ(chmod(dir_.c_str(), 0755), 0);
  EXPECT_THAT(Message(LedgerFile::Open(dir_, registry_).status()), HasSubstr("open to others"));
}

TEST_F(LedgerFileTest, RefusesAForeignFile) {
  std::filesystem::create_directory(dir_);
  ASSERT_EQ(chmod(dir_.c_str(), 0700), 0);
  std::ofstream(path()) << "something else entirely";
  const auto file = LedgerFile::Open(dir_, registry_);
  EXPECT_EQ(file.status().code(), StatusCode::kDataLoss);
  EXPECT_EQ(Bytes(path()), "something else entirely");
}

// A limit on the size of files stands for a disk that is full.
TEST_F(LedgerFileTest, AFullDiskRefusesAdmissionAndLosesNothing) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  options_.reserve_bytes = 8192;
  auto file = Open();
  ASSERT_TRUE(file->Rewrite({}).ok());
  ASSERT_TRUE(file->Ready().ok());
  const rlimit full{.rlim_cur = 4096, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &full), 0);
  for (uint64_t i = 0; i < 1000; ++i) file->Append(std::vector<LedgerRecord>{GoneRecord{i}});
  EXPECT_EQ(file->Ready().code(), StatusCode::kResourceExhausted);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_TRUE(file->Ready().ok());
  file.reset();
  EXPECT_EQ(Open()->TakeRecords().size(), 1000u);
}

TEST_F(LedgerFileTest, AFullOneThatIsRewrittenHasRoomAgain) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  options_.reserve_bytes = 2048;
  auto file = Open();
  ASSERT_TRUE(file->Rewrite({}).ok());
  const rlimit full{.rlim_cur = 4096, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &full), 0);
  for (uint64_t i = 0; i < 1000; ++i) file->Append(std::vector<LedgerRecord>{GoneRecord{i}});
  EXPECT_EQ(file->Ready().code(), StatusCode::kResourceExhausted);
  EXPECT_TRUE(file->Rewrite(std::vector<LedgerRecord>{GoneRecord{7}}).ok());
  EXPECT_TRUE(file->Ready().ok());
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  file.reset();
  EXPECT_EQ(Open()->TakeRecords().size(), 1u);
}

}  // namespace
}  // namespace trireme
