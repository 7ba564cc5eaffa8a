// What is let in, and the words and codes with which the rest is refused.
#include "server/admission.h"

#include <cmath>
#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/request_fault.h"
#include "tests/server/scripted_replica.h"

namespace trireme {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;

constexpr int32_t kContext = 64;

ModelPtr TinyModel(bool with_tokenizer = true) {
  ReplicaInfo info = test::Info();
  if (!with_tokenizer) info.tokenizer_json.clear();
  return *ModelRegistry().Prepare(info);
}

GenerateRequest Valid() {
  GenerateRequest request;
  request.ids = {1, 2, 3};
  return request;
}

// The message of an INVALID_ARGUMENT.
std::string Refusal(const GenerateRequest& request) {
  auto sequence = MakeSequence(request, *TinyModel(), kContext, 7);
  if (sequence.ok()) return "let in";
  EXPECT_EQ(sequence.status().code(), absl::StatusCode::kInvalidArgument) << sequence.status();
  return Message(sequence.status());
}

template <typename F>
std::string RefusalWith(F&& change) {
  GenerateRequest request = Valid();
  change(request);
  return Refusal(request);
}

TEST(AdmissionTest, FillsInTheDefaults) {
  auto sequence = MakeSequence(Valid(), *TinyModel(), kContext, 7);
  ASSERT_TRUE(sequence.ok());
  EXPECT_EQ(sequence->sampling.temperature, 1);
  EXPECT_EQ(sequence->sampling.top_k, 0);
  EXPECT_EQ(sequence->sampling.top_p, 1);
  EXPECT_EQ(sequence->sampling.min_p, 0);
  EXPECT_EQ(sequence->sampling.seed, 7u);
  EXPECT_EQ(sequence->max_tokens, 61);  // what the context leaves
  EXPECT_EQ(sequence->min_tokens, 0);
  EXPECT_THAT(sequence->stop_ids, ElementsAre(test::kEos));
  EXPECT_EQ(sequence->dropout, 0);
  EXPECT_FALSE(sequence->penalties.any());
  EXPECT_THAT(sequence->logit_bias, IsEmpty());
}

TEST(AdmissionTest, KeepsWhatIsGiven) {
  GenerateRequest request = Valid();
  request.temperature = 0;
  request.top_k = 3;
  request.top_p = 0.5f;
  request.min_p = 0.25f;
  request.seed = 9;
  request.max_tokens = 61;
  request.min_tokens = 61;
  request.stop_token_ids = {5};
  request.ignore_eos = true;
  request.dropout = 0.125f;
  request.repetition_penalty = 1.5f;
  request.presence_penalty = -2;
  request.frequency_penalty = 2;
  request.logit_bias = {{29, -100}};
  auto sequence = MakeSequence(request, *TinyModel(), kContext, 7);
  ASSERT_TRUE(sequence.ok()) << sequence.status();
  EXPECT_EQ(sequence->sampling.temperature, 0);
  EXPECT_EQ(sequence->sampling.top_k, 3);
  EXPECT_EQ(sequence->sampling.top_p, 0.5f);
  EXPECT_EQ(sequence->sampling.min_p, 0.25f);
  EXPECT_EQ(sequence->sampling.seed, 9u);
  EXPECT_EQ(sequence->dropout_seed, 9u);
  EXPECT_EQ(sequence->min_tokens, 61);
  EXPECT_THAT(sequence->stop_ids, ElementsAre(5));
  EXPECT_EQ(sequence->penalties.repetition, 1.5f);
  EXPECT_EQ(sequence->penalties.presence, -2);
  EXPECT_EQ(sequence->penalties.frequency, 2);
  EXPECT_THAT(sequence->logit_bias, ElementsAre(Pair(29, -100)));
}

TEST(AdmissionTest, PromptAndContext) {
  EXPECT_THAT(RefusalWith([](auto& r) { r.ids.clear(); }), HasSubstr("prompt is empty"));
  // The tokenizer made a <s> of it.
  EXPECT_THAT(RefusalWith([](auto& r) { r.text = ""; }), HasSubstr("prompt is empty"));
  EXPECT_THAT(RefusalWith([](auto& r) { r.ids.assign(64, 1); }),
              HasSubstr("the prompt has 64 tokens; the context of 64"));
  EXPECT_EQ(RefusalWith([](auto& r) { r.ids.assign(63, 1); }), "let in");
  EXPECT_THAT(RefusalWith([](auto& r) { r.max_tokens = 62; }),
              HasSubstr("3 tokens and max_tokens 62 exceed the context of 64; at most 61"));
  EXPECT_THAT(RefusalWith([](auto& r) { r.max_tokens = std::numeric_limits<int32_t>::max(); }),
              HasSubstr("exceed the context"));
  EXPECT_THAT(RefusalWith([](auto& r) { r.max_tokens = 0; }), HasSubstr("max_tokens is 0"));
  EXPECT_THAT(RefusalWith([](auto& r) { r.max_tokens = -1; }), HasSubstr("max_tokens is -1"));
}

TEST(AdmissionTest, IdsOutOfTheVocabulary) {
  EXPECT_THAT(RefusalWith([](auto& r) { r.ids[1] = -1; }),
              HasSubstr("ids[1] is -1, outside the vocabulary [0, 30)"));
  EXPECT_THAT(RefusalWith([](auto& r) { r.ids[2] = 30; }), HasSubstr("ids[2] is 30"));
  EXPECT_THAT(RefusalWith([](auto& r) { r.stop_token_ids = {30}; }),
              HasSubstr("stop_token_ids[0] is 30"));
}

TEST(AdmissionTest, SamplingOutOfRange) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInf = std::numeric_limits<float>::infinity();
  for (float bad : {kNan, kInf, -kInf, -0.5f}) {
    EXPECT_THAT(RefusalWith([&](auto& r) { r.temperature = bad; }), HasSubstr("temperature is "));
  }
  for (float bad : {kNan, kInf, 0.0f, -0.5f, 1.5f}) {
    EXPECT_THAT(RefusalWith([&](auto& r) { r.top_p = bad; }), HasSubstr("in (0, 1]"));
  }
  for (float bad : {kNan, kInf, -0.5f, 1.0f}) {
    EXPECT_THAT(RefusalWith([&](auto& r) { r.min_p = bad; }), HasSubstr("min_p is "));
    EXPECT_THAT(RefusalWith([&](auto& r) { r.dropout = bad; }), HasSubstr("dropout is "));
  }
  for (float bad : {kNan, kInf, 0.0f, -1.0f}) {
    EXPECT_THAT(RefusalWith([&](auto& r) { r.repetition_penalty = bad; }),
                HasSubstr("it must be finite and above 0"));
  }
  for (float bad : {kNan, kInf, -2.5f, 2.5f}) {
    EXPECT_THAT(RefusalWith([&](auto& r) { r.presence_penalty = bad; }),
                HasSubstr("presence_penalty is "));
    EXPECT_THAT(RefusalWith([&](auto& r) { r.frequency_penalty = bad; }),
                HasSubstr("frequency_penalty is "));
  }
  for (float bad : {kNan, kInf, -101.0f, 101.0f}) {
    EXPECT_THAT(RefusalWith([&](auto& r) {
                  r.logit_bias = {{5, bad}};
                }),
                HasSubstr("logit_bias of id 5 is "));
  }
  for (int32_t bad : {-1, 30}) {
    EXPECT_EQ(RefusalWith([&](auto& r) {
                r.logit_bias = {{bad, 1}};
              }),
              StrCat("logit_bias has id ", bad, ", outside the vocabulary [0, 30)"));
  }
  for (int32_t bad : {-1, 21}) {
    EXPECT_EQ(RefusalWith([&](auto& r) { r.logprobs = bad; }),
              StrCat("logprobs is ", bad, "; it must be in [0, 20]"));
    EXPECT_EQ(RefusalWith([&](auto& r) { r.prompt_logprobs = bad; }),
              StrCat("prompt_logprobs is ", bad, "; it must be in [0, 20]"));
  }
  EXPECT_EQ(RefusalWith([](auto& r) { r.logprobs = r.prompt_logprobs = 20; }), "let in");
  EXPECT_THAT(RefusalWith([](auto& r) {
                for (int32_t id = 0; id <= 1024; ++id) r.logit_bias[id] = 1;
              }),
              HasSubstr("logit_bias has 1025 ids; at most 1024"));
  EXPECT_THAT(RefusalWith([](auto& r) { r.top_k = -1; }),
              HasSubstr("top_k is -1; it must be at least 0 (0: all)"));
  EXPECT_THAT(RefusalWith([](auto& r) {
                r.max_tokens = 5;
                r.min_tokens = 6;
              }),
              HasSubstr("min_tokens is 6; it must be in [0, 5]"));
  EXPECT_THAT(RefusalWith([](auto& r) { r.min_tokens = -1; }), HasSubstr("min_tokens is -1"));
  for (double bad : {0.0, -1.0, double{kNan}, double{kInf}}) {
    EXPECT_THAT(RefusalWith([&](auto& r) { r.timeout_s = bad; }), HasSubstr("timeout_s is "));
  }
}

TEST(AdmissionTest, StopStrings) {
  EXPECT_THAT(RefusalWith([](auto& r) { r.stop = {"a", ""}; }), HasSubstr("empty string"));
  EXPECT_THAT(RefusalWith([](auto& r) { r.stop.assign(17, "a"); }), HasSubstr("17 strings"));
  EXPECT_EQ(RefusalWith([](auto& r) { r.stop.assign(16, "a"); }), "let in");
  EXPECT_THAT(RefusalWith([](auto& r) { r.stop = {std::string(1025, 'a')}; }),
              HasSubstr("1025 bytes"));
  EXPECT_THAT(RefusalWith([](auto& r) { r.stop_token_ids.assign(129, 1); }), HasSubstr("129 ids"));

  GenerateRequest request = Valid();
  request.stop = {"a"};
  auto without_tokenizer = MakeSequence(request, *TinyModel(false), kContext, 7);
  EXPECT_EQ(without_tokenizer.status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(AdmissionTest, Names) {
  EXPECT_THAT(RefusalWith([](auto& r) { r.request_id = "two words"; }), HasSubstr("request_id"));
  EXPECT_THAT(RefusalWith([](auto& r) { r.request_id = "a\nb"; }), HasSubstr("request_id"));
  EXPECT_THAT(RefusalWith([](auto& r) { r.request_id.assign(129, 'a'); }), HasSubstr("request_id"));
  EXPECT_EQ(RefusalWith([](auto& r) { r.request_id = "6ba7b810-9dad:1"; }), "let in");
  EXPECT_THAT(RefusalWith([](auto& r) { r.cache_salt.assign(257, 'a'); }), HasSubstr("cache_salt"));
}

// The field, and behind it why, where the status says so.
template <typename F>
std::string FaultWith(F&& change) {
  GenerateRequest request = Valid();
  change(request);
  const auto status = MakeSequence(request, *TinyModel(), kContext, 7).status();
  const std::string reason = ReasonOf(status);
  return FieldOf(status) + (reason.empty() ? "" : ": " + reason);
}

TEST(AdmissionTest, PromptLogprobsOfAllChoicesAreBounded) {
  GenerateRequest request = Valid();
  request.ids.assign(390, 1);  // times 128 choices, times 21: just below the bound
  request.n = 128;
  request.prompt_logprobs = 20;
  request.max_tokens = 1;
  EXPECT_TRUE(MakeSequence(request, *TinyModel(), 1000, 7).ok());
  request.ids.assign(391, 1);
  const auto refused = MakeSequence(request, *TinyModel(), 1000, 7).status();
  EXPECT_THAT(Message(refused), HasSubstr("make 1051008 logprobs of prompts; at most 1048576"));
}

TEST(AdmissionTest, RefusalsCarryTheField) {
  EXPECT_EQ(FaultWith([](auto&) {}), "");
  EXPECT_EQ(FaultWith([](auto& r) { r.ids.clear(); }), "prompt");
  EXPECT_EQ(FaultWith([](auto& r) { r.ids = {-1}; }), "prompt");
  EXPECT_EQ(FaultWith([](auto& r) { r.ids.assign(64, 1); }), "prompt: context_length_exceeded");
  EXPECT_EQ(FaultWith([](auto& r) { r.max_tokens = 62; }), "max_tokens: context_length_exceeded");
  EXPECT_EQ(FaultWith([](auto& r) { r.max_tokens = 0; }), "max_tokens");
  EXPECT_EQ(FaultWith([](auto& r) { r.n = 0; }), "n");
  EXPECT_EQ(FaultWith([](auto& r) { r.temperature = -1; }), "temperature");
  EXPECT_EQ(FaultWith([](auto& r) { r.top_p = 0; }), "top_p");
  EXPECT_EQ(FaultWith([](auto& r) { r.top_k = -1; }), "top_k");
  EXPECT_EQ(FaultWith([](auto& r) { r.min_p = 1; }), "min_p");
  EXPECT_EQ(FaultWith([](auto& r) { r.dropout = 1; }), "dropout");
  EXPECT_EQ(FaultWith([](auto& r) { r.min_tokens = -1; }), "min_tokens");
  EXPECT_EQ(FaultWith([](auto& r) { r.repetition_penalty = 0; }), "repetition_penalty");
  EXPECT_EQ(FaultWith([](auto& r) { r.presence_penalty = 3; }), "presence_penalty");
  EXPECT_EQ(FaultWith([](auto& r) { r.frequency_penalty = 3; }), "frequency_penalty");
  EXPECT_EQ(FaultWith([](auto& r) { r.logit_bias = {{99, 1}}; }), "logit_bias");
  EXPECT_EQ(FaultWith([](auto& r) { r.logit_bias = {{1, 101}}; }), "logit_bias");
  EXPECT_EQ(FaultWith([](auto& r) { r.logprobs = 21; }), "logprobs");
  EXPECT_EQ(FaultWith([](auto& r) { r.prompt_logprobs = 21; }), "prompt_logprobs");
  EXPECT_EQ(FaultWith([](auto& r) { r.stop = {""}; }), "stop");
  EXPECT_EQ(FaultWith([](auto& r) { r.stop_token_ids = {99}; }), "stop_token_ids");
  EXPECT_EQ(FaultWith([](auto& r) { r.request_id = "two words"; }), "request_id");
  EXPECT_EQ(FaultWith([](auto& r) { r.cache_salt.assign(257, 'a'); }), "cache_salt");
  EXPECT_EQ(FaultWith([](auto& r) { r.timeout_s = 0; }), "timeout_s");
  EXPECT_EQ(FaultWith([](auto& r) { r.detach_s = 0; }), "detach_ttl_s");
}

TEST(ModelRegistryTest, RefusesReplicasByName) {
  const auto refusal = [](auto&& change) {
    ReplicaInfo info = test::Info();
    change(info);
    return Message(ModelRegistry().Prepare(info).status());
  };
  EXPECT_THAT(refusal([](auto& i) { i.model.clear(); }), HasSubstr("names no model"));
  EXPECT_THAT(refusal([](auto& i) { i.fingerprint.clear(); }), HasSubstr("fingerprint"));
  EXPECT_THAT(refusal([](auto& i) { i.vocab_size = 0; }), HasSubstr("vocab_size is 0"));
  EXPECT_THAT(refusal([](auto& i) { i.eos_ids = {30}; }), HasSubstr("eos id 30"));
  EXPECT_THAT(refusal([](auto& i) { i.tokenizer_json = "{"; }),
              HasSubstr("tokenizer.json of tiny"));
}

}  // namespace
}  // namespace trireme
