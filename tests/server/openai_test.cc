// OpenAI's API as text: fields, refusals, answers and streams.
#include "server/openai.h"

#include <cmath>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/chat.h"
#include "server/openai_answer.h"
#include "server/openai_error.h"
#include "server/openai_fields.h"
#include "server/request_fault.h"
#include "tests/server/scripted_replica.h"

namespace trireme {
namespace {

using Json = nlohmann::ordered_json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;

CompletionCall Parsed(const std::string& body) {
  std::string param;
  auto call = ParseCompletion(body, &param);
  EXPECT_TRUE(call.ok()) << call.status();
  return call.ok() ? *std::move(call) : CompletionCall();
}

// "PARAM | message" of what is refused.
std::string Refusal(const std::string& body) {
  std::string param;
  auto call = ParseCompletion(body, &param);
  EXPECT_EQ(call.status().code(), absl::StatusCode::kInvalidArgument) << body;
  return param + " | " + Message(call.status());
}

TEST(OpenAiTest, FieldsBecomeARequest) {
  const auto call = Parsed(R"({"model": "m", "prompt": "Once", "max_tokens": 7, "temperature": 0.5,
      "top_p": 0.9, "top_k": 40, "min_p": 0.1, "n": 2, "seed": -1, "stop": ["a", "b"],
      "stop_token_ids": [3], "ignore_eos": true, "min_tokens": 2, "echo": true, "user": "u",
      "unknown": {"x": 1}, "stream": true, "stream_options": {"include_usage": true},
      "presence_penalty": 0.5, "frequency_penalty": -1, "repetition_penalty": 1.5,
      "logit_bias": {"5": -100, "7": 2.5}, "best_of": 2, "suffix": null})");
  ASSERT_EQ(call.requests.size(), 1u);
  const GenerateRequest& r = call.requests[0];
  EXPECT_EQ(r.model, "m");
  EXPECT_EQ(r.text, "Once");
  EXPECT_EQ(r.max_tokens, 7);
  EXPECT_EQ(r.temperature, 0.5f);
  EXPECT_EQ(r.top_p, 0.9f);
  EXPECT_EQ(r.top_k, 40);
  EXPECT_EQ(r.min_p, 0.1f);
  EXPECT_EQ(r.n, 2);
  EXPECT_EQ(r.seed, UINT64_MAX);
  EXPECT_THAT(r.stop, ElementsAre("a", "b"));
  EXPECT_THAT(r.stop_token_ids, ElementsAre(3));
  EXPECT_TRUE(r.ignore_eos);
  EXPECT_EQ(r.min_tokens, 2);
  EXPECT_TRUE(r.echo);
  EXPECT_TRUE(call.stream);
  EXPECT_TRUE(call.include_usage);
  EXPECT_EQ(r.presence_penalty, 0.5f);
  EXPECT_EQ(r.frequency_penalty, -1);
  EXPECT_EQ(r.repetition_penalty, 1.5f);
  EXPECT_THAT(r.logit_bias, ElementsAre(Pair(5, -100), Pair(7, 2.5f)));
}

TEST(OpenAiTest, DefaultsAreOpenAis) {
  const auto call = Parsed(R"({"prompt": "x", "stop": "one", "top_k": -1, "temperature": null})");
  EXPECT_EQ(call.requests[0].max_tokens, 16);
  EXPECT_EQ(call.requests[0].top_k, 0);
  EXPECT_THAT(call.requests[0].stop, ElementsAre("one"));
  EXPECT_FALSE(call.requests[0].temperature.has_value());
  EXPECT_FALSE(call.stream);
}

TEST(OpenAiTest, APromptIsATextOrIdsOrAnArrayOfEither) {
  EXPECT_THAT(Parsed(R"({"prompt": [1, 2]})").requests[0].ids, ElementsAre(1, 2));
  EXPECT_EQ(Parsed(R"({"prompt": ["a", "b"]})").requests[1].text, "b");
  EXPECT_THAT(Parsed(R"({"prompt": [[1], [2, 3]]})").requests[1].ids, ElementsAre(2, 3));
  for (const char* bad : {"5", "[]", "[[]]", "[\"a\", 1]", "[1.5]", "[-1]", "{}", "[[1], \"a\"]"}) {
    EXPECT_EQ(Refusal(StrCat("{\"prompt\": ", bad, "}")),
              "prompt | prompt: expected a string, token ids, or an array of either")
        << bad;
  }
  EXPECT_EQ(Refusal("{}"), "prompt | prompt: is missing");
}

TEST(OpenAiTest, WhatIsKeptForEachPromptIsBoundedBeforeThereIsOne) {
  const auto refusal = [](const std::string& field, const std::string& value) {
    return Refusal(R"({"prompt": ["a", "b"], ")" + field + "\": " + value + "}");
  };
  const auto array = [](int n, const std::string& of) {
    std::string text;
    for (int i = 0; i < n; ++i) text += (i > 0 ? "," : "") + of;
    return "[" + text + "]";
  };
  for (const char* bad : {"2147483647", "129", "0", "-1"}) {
    EXPECT_EQ(refusal("n", bad), StrCat("n | n: is ", bad, "; it must be in [1, 128]"));
  }
  EXPECT_EQ(refusal("stop", array(17, "\"s\"")), "stop | stop: has 17; at most 16 are possible");
  EXPECT_THAT(refusal("stop", "\"" + std::string(1025, 's') + "\""), HasSubstr("has 1025"));
  EXPECT_THAT(refusal("stop_token_ids", array(129, "1")), HasSubstr("has 129; at most 128"));
  EXPECT_THAT(refusal("cache_salt", "\"" + std::string(257, 's') + "\""), HasSubstr("has 257"));
  std::string biases;
  for (int i = 0; i < 1025; ++i) biases += StrCat(i > 0 ? "," : "", "\"", i, "\": 1");
  EXPECT_THAT(refusal("logit_bias", "{" + biases + "}"), HasSubstr("has 1025; at most 1024"));
}

TEST(OpenAiTest, WrongTypesAndUnsupportedFieldsAreRefused) {
  const auto refusal = [](const std::string& field) {
    return Refusal(R"({"prompt": "secret", )" + field + "}");
  };
  EXPECT_EQ(
      refusal(R"("max_tokens": "5")"),
      "max_tokens | max_tokens: expected a whole number from -2147483648 to 2147483647, not a "
      "string");
  EXPECT_THAT(refusal(R"("max_tokens": 1e3)"), HasSubstr("not 1000.0"));
  EXPECT_THAT(refusal(R"("n": 99999999999)"), HasSubstr("n: expected a whole number"));
  EXPECT_THAT(refusal(R"("seed": 18446744073709551615)"), HasSubstr("seed: expected"));
  EXPECT_EQ(refusal(R"("temperature": "hot")"),
            "temperature | temperature: expected a number, not a string");
  EXPECT_EQ(refusal(R"("stream": 1)"), "stream | stream: expected true or false, not 1");
  EXPECT_EQ(refusal(R"("stop": [1])"), "stop | stop: expected a string or an array of strings");
  for (const char* bad : {"[5]", "5", R"({"x": 1})", R"({"5 ": 1})", R"({"5": "1"})"}) {
    EXPECT_EQ(refusal(StrCat(R"("logit_bias": )", bad)),
              "logit_bias | logit_bias: expected an object of token ids and numbers")
        << bad;
  }
  EXPECT_THAT(refusal(R"("logprobs": true)"), HasSubstr("logprobs: expected a whole number"));
  EXPECT_EQ(refusal(R"("prompt_logprobs": 1, "stream": true)"),
            "prompt_logprobs | prompt_logprobs: is not for streams");
  EXPECT_EQ(refusal(R"("best_of": 3)"), "best_of | best_of: is not supported beyond n");
  EXPECT_EQ(refusal(R"("stream_options": {})"), "stream_options | stream_options: is for streams");
  EXPECT_EQ(Refusal("[]"), " | the body is an array, not a JSON object");
  EXPECT_EQ(Refusal("{\"prompt\": "), " | the body is not JSON in UTF-8");
  EXPECT_EQ(Refusal("{\"prompt\": \"\xff\"}"), " | the body is not JSON in UTF-8");
  EXPECT_EQ(Refusal(std::string(100000, '[')), " | the body is JSON more than 64 levels deep");
}

// ---- Fields that would change the answer.

// "" of what is taken, else "PARAM".
std::string RefusedField(Endpoint endpoint, const std::string& field, const Json& value) {
  Json body = {{"model", "m"}, {field, value}};
  if (endpoint == kChats) {
    body["messages"] = Json::array({{{"role", "user"}, {"content", "hi"}}});
  } else {
    body["prompt"] = "x";
  }
  std::string param;
  absl::Status status;
  if (endpoint == kCompletions) status = ParseCompletion(body.dump(), &param).status();
  if (endpoint == kChats) status = ParseChat(body.dump(), &param).status();
  if (endpoint == kTokenize) status = ParseTokenize(body.dump(), &param).status();
  EXPECT_EQ(status.ok(), param.empty()) << status;
  if (!status.ok()) {
    EXPECT_THAT(Message(status), HasSubstr(field + ": is not supported"));
  }
  return param;
}

TEST(OpenAiTest, EachUnsupportedFieldIsRefusedUnlessItDoesNothing) {
  for (const UnsupportedField& field : UnsupportedFields()) {
    for (const Endpoint endpoint : {kCompletions, kChats, kTokenize}) {
      if ((field.endpoints & endpoint) == 0) continue;
      EXPECT_EQ(RefusedField(endpoint, field.name, {{"x", 1}}), field.name);
      EXPECT_EQ(RefusedField(endpoint, field.name, nullptr), "");
      for (const Json& value : field.harmless) {
        EXPECT_EQ(RefusedField(endpoint, field.name, value), "") << field.name << value;
      }
    }
  }
}

// As clients send them.
TEST(OpenAiTest, NothingThatWouldChangeTheAnswerIsIgnored) {
  const Json named = {{"type", "function"}, {"function", {{"name", "f"}}}};
  const Json schema = {{"type", "json_schema"}, {"json_schema", {{"name", "a"}}}};
  const std::vector<std::pair<const char*, Json>> both = {
      {"response_format", {{"type", "json_object"}}},
      {"response_format", schema},
      {"structured_outputs", {{"json", Json::object()}}},
      {"guided_json", Json::object()},
      {"guided_regex", "a+"},
      {"guided_choice", {"a", "b"}},
      {"guided_grammar", "root ::= \"a\""},
      {"bad_words", {"a"}},
      {"allowed_token_ids", {1}},
      {"logits_processors", {"p"}},
      {"use_beam_search", true},
      {"length_penalty", 1.5},
      {"truncate_prompt_tokens", 5},
      {"skip_special_tokens", false},
      {"return_token_ids", true},
      {"return_tokens_as_token_ids", true},
      {"thinking_token_budget", 100},
      {"reasoning", {{"effort", "high"}}},
      {"verbosity", "low"}};
  for (const auto& [field, value] : both) {
    EXPECT_EQ(RefusedField(kCompletions, field, value), field);
    EXPECT_EQ(RefusedField(kChats, field, value), field);
  }
  EXPECT_EQ(RefusedField(kCompletions, "suffix", "x"), "suffix");
  EXPECT_EQ(RefusedField(kCompletions, "reasoning_effort", "low"), "reasoning_effort");
  EXPECT_EQ(RefusedField(kCompletions, "prompt_embeds", "AAAA"), "prompt_embeds");
  const std::vector<std::pair<const char*, Json>> chats = {{"tools", {{{"type", "function"}}}},
                                                           {"tool_choice", "required"},
                                                           {"tool_choice", named},
                                                           {"functions", {{{"name", "f"}}}},
                                                           {"function_call", {{"name", "f"}}},
                                                           {"echo", true},
                                                           {"chat_template", "{{ messages }}"},
                                                           {"documents", {{{"text", "a"}}}},
                                                           {"continue_final_message", true},
                                                           {"modalities", {"text", "audio"}},
                                                           {"audio", {{"voice", "a"}}},
                                                           {"web_search_options", Json::object()}};
  for (const auto& [field, value] : chats) EXPECT_EQ(RefusedField(kChats, field, value), field);
}

TEST(OpenAiTest, WhatChangesNoTokenIsAccepted) {
  const std::vector<std::pair<const char*, Json>> both = {{"user", "u"},
                                                          {"metadata", {{"a", "b"}}},
                                                          {"length_penalty", 1.0},
                                                          {"bad_words", {}},
                                                          {"store", true},
                                                          {"logit_bias", Json::object()},
                                                          {"stop", Json::array()},
                                                          {"service_tier", "auto"},
                                                          {"parallel_tool_calls", false}};
  for (const auto& [field, value] : both) {
    EXPECT_EQ(RefusedField(kCompletions, field, value), "") << field;
    EXPECT_EQ(RefusedField(kChats, field, value), "") << field;
  }
  std::string param;
  EXPECT_TRUE(ParseChat(R"({"messages": [{"role": "user"}], "functions": [{"name": "f"}],
                            "function_call": "none"})",
                        &param)
                  .ok());
}

TEST(OpenAiTest, FieldsOfOurOwnAndOfVllmBecomeARequest) {
  const auto call = Parsed(R"({"prompt": "x", "request_id": "mine", "timeout_s": 1.5, "priority": 3,
      "cache_salt": "s", "on_disconnect": "detach", "detach_ttl_s": 30, "dropout": 0.25, "add_special_tokens": false,
      "include_stop_str_in_output": true})");
  const GenerateRequest& r = call.requests[0];
  EXPECT_EQ(call.request_id, "mine");
  EXPECT_EQ(r.timeout_s, 1.5);
  EXPECT_EQ(r.priority, 3);
  EXPECT_EQ(r.cache_salt, "s");
  EXPECT_EQ(r.detach_s, 30);
  EXPECT_EQ(r.dropout, 0.25f);
  EXPECT_EQ(r.add_special_tokens, false);
  EXPECT_TRUE(call.include_stop);
  EXPECT_EQ(Parsed(R"({"prompt": "x", "on_disconnect": "detach"})").requests[0].detach_s,
            kDefaultDetachSeconds);
  const auto plain = Parsed(R"({"prompt": "x", "on_disconnect": "cancel"})").requests[0];
  EXPECT_FALSE(plain.detach_s.has_value());
  EXPECT_FALSE(plain.add_special_tokens.has_value());
  EXPECT_EQ(Refusal(R"({"prompt": "x", "on_disconnect": "wait"})"),
            "on_disconnect | on_disconnect: expected \"cancel\" or \"detach\"");
  EXPECT_EQ(Refusal(R"({"prompt": "x", "detach_ttl_s": 5})"),
            "detach_ttl_s | detach_ttl_s: is for on_disconnect \"detach\"");
}

// Who comes back names the request as its answer did.
TEST(OpenAiTest, TheDigestIsOfAllButTheRequestId) {
  const std::string digest = Parsed(R"({"prompt": "x", "seed": 1})").digest;
  EXPECT_EQ(Parsed(R"({"request_id": "a", "prompt": "x", "seed": 1})").digest, digest);
  EXPECT_NE(Parsed(R"({"prompt": "x", "seed": 2})").digest, digest);
}

// ---- Errors.

// "STATUS TYPE PARAM CODE"
std::string ErrorOf(const absl::Status& status, const std::string& param = "") {
  const OpenAiError error = ToOpenAiError(status, param);
  const Json json = Json::parse(error.body)["error"];
  EXPECT_EQ(json["message"], Message(status));
  return StrCat(error.http_status, " ", json["type"].dump(), " ", json["param"].dump(), " ",
                json["code"].dump());
}

TEST(OpenAiTest, ErrorsNameTheFieldAndWhy) {
  EXPECT_EQ(ErrorOf(WithField(InvalidArgument("n is 0"), "n")),
            R"(400 "invalid_request_error" "n" null)");
  EXPECT_EQ(
      ErrorOf(WithReason(WithField(InvalidArgument("long"), "prompt"), kContextLengthExceeded),
              "messages"),
      R"(400 "invalid_request_error" "messages" "context_length_exceeded")");
  EXPECT_EQ(ErrorOf(NotFound("no model"), "model"),
            R"(404 "invalid_request_error" "model" "model_not_found")");
  EXPECT_EQ(ErrorOf(NotFound("no page")), R"(404 "invalid_request_error" null "not_found")");
  EXPECT_EQ(ErrorOf(ResourceExhausted("full")),
            R"(429 "rate_limit_error" null "rate_limit_exceeded")");
}

TEST(OpenAiTest, ParamsAreTheEndpointsOwnNames) {
  const auto prompt = WithField(InvalidArgument("long"), "prompt");
  const auto max_tokens = WithField(InvalidArgument("many"), "max_tokens");
  EXPECT_EQ(Parsed(R"({"prompt": "x"})").ParamOf(prompt), "prompt");
  std::string param;
  const std::string hi = R"({"messages": [{"role": "user", "content": "hi"}])";
  const auto chat = *ParseChat(hi + R"(, "max_completion_tokens": 9})", &param);
  EXPECT_EQ(chat.ParamOf(prompt), "messages");
  EXPECT_EQ(chat.ParamOf(max_tokens), "max_completion_tokens");
  EXPECT_EQ(ParseChat(hi + R"(, "max_tokens": 9})", &param)->ParamOf(max_tokens), "max_tokens");
  EXPECT_EQ(Message(ParseChat(hi + R"(, "logprobs": true, "top_logprobs": 21})", &param).status()),
            "top_logprobs: expected a whole number from 0 to 20, not 21");
  EXPECT_EQ(param, "top_logprobs");
}

// ---- Tokenizing.

TEST(OpenAiTest, TokenizeTakesATextOrMessages) {
  std::string param;
  const auto parse = [&](const std::string& body) { return ParseTokenize(body, &param); };
  const auto text = parse(R"({"model": "m", "prompt": "a"})");
  EXPECT_EQ(text->prompt, "a");
  EXPECT_EQ(text->model, "m");
  EXPECT_TRUE(text->add_special_tokens);
  EXPECT_FALSE(text->return_token_strs);
  const auto chat = parse(R"({"messages": [{"role": "user", "content": "hi"}],
      "add_generation_prompt": false, "return_token_strs": true})");
  EXPECT_EQ(chat->chat->messages[0]["content"], "hi");
  EXPECT_FALSE(chat->chat->add_generation_prompt);
  EXPECT_FALSE(chat->add_special_tokens);  // the template writes them
  EXPECT_TRUE(chat->return_token_strs);
  EXPECT_EQ(Message(parse("{}").status()), "prompt: is missing: send a text, or messages");
  EXPECT_EQ(Message(parse(R"({"prompt": "a", "messages": [{"role": "user"}]})").status()),
            "prompt: is for a text, messages for a chat: send one");
  EXPECT_FALSE(parse(R"({"messages": []})").ok());
  EXPECT_EQ(param, "messages");
}

Finished End(uint32_t choice, FinishReason reason, int32_t tokens, bool last) {
  return {.choice = choice, .reason = reason, .usage = {5, tokens, 2}, .last = last};
}

TEST(OpenAiTest, AnAnswerHasTheChoicesOfEveryPromptInOrder) {
  const auto call = Parsed(R"({"prompt": ["a", "b"], "n": 2})");
  CompletionAnswer answer(call, "cmpl-1", 7, "m", nullptr);
  answer.Add(1, Delta{.choice = 0, .ids = {1}, .text = "b0"});
  answer.Add(0, Delta{.choice = 1, .ids = {1}, .text = "a1"});
  answer.Add(0, Delta{.choice = 0, .ids = {1}, .text = "a"});
  answer.Add(0, Delta{.choice = 0, .offset = 1, .ids = {2}, .text = "0"});
  answer.Add(0, End(0, FinishReason::kStop, 2, false));
  answer.Add(0, End(1, FinishReason::kLength, 1, true));
  answer.Add(1, End(1, FinishReason::kStop, 0, false));
  EXPECT_FALSE(answer.ended());
  answer.Add(1, End(0, FinishReason::kDeadline, 1, true));
  ASSERT_TRUE(answer.ended());
  EXPECT_EQ(Json::parse(answer.Whole()), Json::parse(R"({
      "id": "cmpl-1", "object": "text_completion", "created": 7, "model": "m", "choices": [
        {"index": 0, "text": "a0", "logprobs": null, "finish_reason": "stop"},
        {"index": 1, "text": "a1", "logprobs": null, "finish_reason": "length"},
        {"index": 2, "text": "b0", "logprobs": null, "finish_reason": "length"},
        {"index": 3, "text": "", "logprobs": null, "finish_reason": "stop"}],
      "usage": {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14,
                "prompt_tokens_details": {"cached_tokens": 4}}})"));
}

// The objects of a stream; "[DONE]" and comments as they are.
std::vector<std::string> Events(const std::string& stream) {
  std::vector<std::string> events;
  for (size_t begin = 0; begin < stream.size();) {
    const size_t end = stream.find("\n\n", begin);
    EXPECT_NE(end, std::string::npos);
    events.push_back(stream.substr(begin, end - begin));
    begin = end + 2;
  }
  return events;
}

TEST(OpenAiTest, AStreamEndsWithUsageWhereItIsAskedFor) {
  const auto call =
      Parsed(R"({"prompt": "a", "stream": true, "stream_options": {"include_usage": true}})");
  CompletionAnswer answer(call, "cmpl-1", 7, "m", nullptr);
  EXPECT_EQ(answer.Add(0, Accepted{.id = "r"}), "");
  const auto delta = Events(answer.Add(0, Delta{.ids = {1}, .text = "x\"\n"}));
  EXPECT_THAT(delta, ElementsAre(R"(data: {"id":"cmpl-1","object":"text_completion","created":7,)"
                                 R"("model":"m","choices":[{"index":0,"text":"x\"\n",)"
                                 R"("logprobs":null,"finish_reason":null}],"usage":null})"));
  EXPECT_EQ(answer.Add(0, Delta{.offset = 1, .ids = {1}}), "");  // its text is held back
  EXPECT_EQ(answer.Add(0, Waiting{"a replica was lost"}), ": a replica was lost\n\n");
  const auto end = Events(answer.Add(0, End(0, FinishReason::kStop, 3, true)));
  ASSERT_EQ(end.size(), 3u);
  EXPECT_THAT(end[0], HasSubstr(R"("text":"","logprobs":null,"finish_reason":"stop")"));
  EXPECT_THAT(end[1], HasSubstr(R"("choices":[],"usage":{"prompt_tokens":5,"completion_tokens":3,)"
                                R"("total_tokens":8,)"));
  EXPECT_EQ(end[2], "data: [DONE]");
}

TEST(OpenAiTest, WhatEndedATextStandsInItWhereThatIsAskedFor) {
  const auto text = [](const std::string& fields, const Finished& finished) {
    const auto call = Parsed(R"({"prompt": "a")" + fields + "}");
    CompletionAnswer answer(call, "cmpl-1", 7, "m", *Tokenizer::FromJson(test::TokenizerJson()));
    answer.Add(0, Delta{.ids = {1}, .text = "x"});
    answer.Add(0, Finished(finished));
    return Json::parse(answer.Whole())["choices"][0]["text"].get<std::string>();
  };
  Finished by_text = End(0, FinishReason::kStop, 1, true);
  by_text.stop_text = "END";
  Finished by_id = End(0, FinishReason::kStop, 1, true);
  by_id.stop_id = 2;
  const std::string include = R"(, "include_stop_str_in_output": true)";
  EXPECT_EQ(text("", by_text), "x");
  EXPECT_EQ(text(include, by_text), "xEND");
  EXPECT_EQ(text("", by_id), "x");
  EXPECT_EQ(text(include, by_id), "xc");
  EXPECT_EQ(text(include, End(0, FinishReason::kLength, 1, true)), "x");
}

TEST(OpenAiTest, AStreamThatBreaksOffSaysWhy) {
  const auto call = Parsed(R"({"prompt": ["a", "b"], "stream": true})");
  CompletionAnswer answer(call, "cmpl-1", 7, "m", nullptr);
  answer.Add(0, Delta{.ids = {1}, .text = "x"});
  EXPECT_THAT(Events(answer.Add(0, Internal("broken"))),
              ElementsAre(R"(data: {"error":{"message":"broken","type":"server_error",)"
                          R"("param":null,"code":null}})",
                          "data: [DONE]"));
  EXPECT_TRUE(answer.ended());
  EXPECT_EQ(answer.Add(1, Delta{.ids = {1}, .text = "y"}), "");
}

// ---- Logprobs.

std::shared_ptr<const Tokenizer> Letters() { return *Tokenizer::FromJson(test::TokenizerJson()); }

TEST(OpenAiTest, CompletionsHaveLogprobsByToken) {
  const auto call = Parsed(R"({"prompt": "ab", "logprobs": 1, "echo": true})");
  EXPECT_EQ(call.requests[0].logprobs, 1);
  EXPECT_EQ(call.requests[0].prompt_logprobs, 1);
  CompletionAnswer answer(call, "cmpl-1", 7, "m", Letters());
  answer.Add(0, Accepted{.prompt_ids = {0, 1}, .prompt_text = "ab"});
  answer.Add(0, Delta{.prompt_logprobs = {{.logprob = -0.5f, .top = {{2, -0.25f}, {3, -9}}}}});
  answer.Add(0, Delta{.ids = {4, test::kFirstHalf},
                      .text = "e",
                      .logprobs = {{.logprob = -1, .top = {{4, -1}}},
                                   {.logprob = -HUGE_VALF, .top = {{5, -2}}}}});
  answer.Add(0, Delta{.offset = 2,
                      .ids = {test::kSecondHalf},
                      .text = "\u00e9",
                      .logprobs = {{.logprob = -3, .top = {{6, -0.5f}}}}});
  answer.Add(0, End(0, FinishReason::kLength, 3, true));
  const Json choice = Json::parse(answer.Whole())["choices"][0];
  EXPECT_EQ(choice["text"], "abe\u00e9");
  EXPECT_EQ(choice["logprobs"], Json::parse(R"({
      "tokens": ["a", "b", "e", "\ufffd", "\ufffd"],
      "text_offset": [0, 1, 2, 3, 4],
      "token_logprobs": [null, -0.5, -1.0, -9999.0, -3.0],
      "top_logprobs": [null, {"c": -0.25, "b": -0.5}, {"e": -1.0}, {"f": -2.0, "\ufffd": -9999.0},
                       {"g": -0.5, "\ufffd": -3.0}]})"));
}

TEST(OpenAiTest, AnEchoOfOneTokenHasNoLogprob) {
  const auto call = Parsed(R"({"prompt": "a", "logprobs": 0, "echo": true, "stream": true})");
  CompletionAnswer answer(call, "cmpl-1", 7, "m", Letters());
  EXPECT_EQ(answer.Add(0, Accepted{.prompt_ids = {0}, .prompt_text = "a"}), "");
  const auto events = Events(answer.Add(0, Delta{.ids = {1}, .logprobs = {{.logprob = -1}}}));
  ASSERT_EQ(events.size(), 2u);
  EXPECT_THAT(events[0], HasSubstr(R"("text":"a","logprobs":{"tokens":["a"],"text_offset":[0],)"
                                   R"("token_logprobs":[null],"top_logprobs":[null]})"));
  EXPECT_THAT(events[1], HasSubstr(R"("text":"","logprobs":{"tokens":["b"],"text_offset":[1],)"
                                   R"("token_logprobs":[-1.0],"top_logprobs":[{"b":-1.0}]})"));
}

TEST(OpenAiTest, PromptLogprobsAreVllms) {
  const auto call = Parsed(R"({"prompt": "ab", "prompt_logprobs": 1, "logprobs": false})");
  EXPECT_FALSE(call.requests[0].logprobs.has_value());
  CompletionAnswer answer(call, "cmpl-1", 7, "m", nullptr);
  answer.Add(0, Accepted{.prompt_ids = {0, 1}});
  answer.Add(0, Delta{.prompt_logprobs = {{.logprob = -0.5f, .top = {{2, -0.25f}}}}});
  answer.Add(0, End(0, FinishReason::kStop, 0, true));
  EXPECT_EQ(Json::parse(answer.Whole())["choices"][0]["prompt_logprobs"].dump(),
            R"([null,{"1":{"logprob":-0.5,"decoded_token":"token_id:1"},)"
            R"("2":{"logprob":-0.25,"decoded_token":"token_id:2"}}])");
}

TEST(OpenAiTest, ChatsHaveLogprobsByTokenWithBytes) {
  std::string param;
  const auto call = *ParseChat(R"({"messages": [{"role": "user", "content": "hi"}],
      "logprobs": true, "top_logprobs": 1})",
                               &param);
  EXPECT_EQ(call.requests[0].logprobs, 1);
  CompletionAnswer answer(call, "chatcmpl-1", 7, "m", Letters());
  answer.Add(0, Accepted{});
  answer.Add(0, Delta{.ids = {0},
                      .text = "a",
                      .logprobs = {{.logprob = -1, .top = {{test::kFirstHalf, -0.5f}}}}});
  answer.Add(0, Delta{.offset = 1, .ids = {1}, .text = "b", .logprobs = {{.logprob = -2}}});
  answer.Add(0, End(0, FinishReason::kStop, 2, true));
  EXPECT_EQ(Json::parse(answer.Whole())["choices"][0]["logprobs"], Json::parse(R"({"content": [
      {"token": "a", "logprob": -1.0, "bytes": [97],
       "top_logprobs": [{"token": "\ufffd", "logprob": -0.5, "bytes": [195]}]},
      {"token": "b", "logprob": -2.0, "bytes": [98], "top_logprobs": []}]})"));
}

// ---- Chats.

TEST(OpenAiTest, AChatsMessagesAreMadeReadyForTemplates) {
  std::string param;
  const auto call = ParseChat(R"({"model": "m", "max_completion_tokens": 9, "max_tokens": 5,
      "chat_template_kwargs": {"enable_thinking": false}, "tools": [{"x": 1}], "tool_choice": "none",
      "messages": [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "1", "type": "function",
            "function": {"name": "f", "arguments": "{\"z\": 1, \"a\": [2]}"}}]},
        {"role": "tool", "content": "ok", "tool_call_id": "1"}]})",
                              &param);
  ASSERT_TRUE(call.ok()) << call.status();
  EXPECT_TRUE(call->is_chat);
  ASSERT_EQ(call->requests.size(), 1u);
  EXPECT_EQ(call->requests[0].max_tokens, 9);
  const Chat& chat = *call->requests[0].chat;
  EXPECT_EQ(chat.messages[0]["content"], "ab");
  EXPECT_TRUE(chat.messages[1]["content"].is_null());
  EXPECT_EQ(chat.messages[1]["tool_calls"][0]["function"]["arguments"].dump(),
            R"({"z":1,"a":[2]})");
  EXPECT_EQ(chat.variables.dump(), R"({"enable_thinking":false})");
  EXPECT_TRUE(chat.add_generation_prompt);
}

TEST(OpenAiTest, ReasoningEffortIsTheTemplates) {
  const auto variables = [](const std::string& fields) {
    std::string param;
    const auto call =
        ParseChat(R"({"messages": [{"role": "user", "content": "hi"}])" + fields + "}", &param);
    return call.ok() ? call->requests[0].chat->variables.dump() : param;
  };
  EXPECT_EQ(variables(""), "{}");
  EXPECT_EQ(variables(R"(, "reasoning_effort": "low")"),
            R"({"reasoning_effort":"low","enable_thinking":true})");
  EXPECT_EQ(variables(R"(, "reasoning_effort": "none")"),
            R"({"reasoning_effort":"none","enable_thinking":false})");
  EXPECT_EQ(
      variables(
          R"(, "reasoning_effort": "low", "chat_template_kwargs": {"enable_thinking": false})"),
      R"({"enable_thinking":false,"reasoning_effort":"low"})");
  EXPECT_EQ(variables(R"(, "reasoning_effort": 5)"), "reasoning_effort");
}

TEST(OpenAiTest, WhatAChatCannotDoIsRefused) {
  const auto refusal = [](const std::string& fields) {
    std::string param;
    return Message(ParseChat("{" + fields + "}", &param).status());
  };
  const std::string hi = R"("messages": [{"role": "user", "content": "hi"}])";
  EXPECT_EQ(refusal(""), "messages: expected an array with at least one message");
  EXPECT_EQ(refusal(R"("messages": [])"), "messages: expected an array with at least one message");
  EXPECT_EQ(refusal(R"("messages": ["hi"])"), "messages: expected objects with a role");
  EXPECT_EQ(refusal(R"("messages": [{"role": 1}])"), "messages: expected objects with a role");
  EXPECT_EQ(refusal(R"("messages": [{"role": "user", "content": [{"type": "image_url"}]}])"),
            "messages: content: expected a string or parts of type text");
  EXPECT_EQ(refusal(hi + R"(, "tools": [{}])"), "tools: is not supported unless it is []");
  EXPECT_EQ(refusal(hi + R"(, "top_logprobs": 2)"), "top_logprobs: needs logprobs: true");
  EXPECT_EQ(refusal(hi + R"(, "prompt_logprobs": 2)"),
            "prompt_logprobs: is not supported: leave it out");
  EXPECT_EQ(refusal(hi + R"(, "response_format": {"type": "json_object"})"),
            "response_format: is not supported unless it is {\"type\":\"text\"}");
  EXPECT_EQ(
      refusal(hi + R"(, "response_format": {"type": "text"}, "logprobs": false, "tools": [])"), "");
}

TEST(OpenAiTest, AChatsAnswerIsAMessage) {
  std::string param;
  auto call = *ParseChat(R"({"messages": [{"role": "user", "content": "hi"}]})", &param);
  CompletionAnswer answer(call, "chatcmpl-1", 7, "m", nullptr);
  answer.Add(0, Accepted{});
  answer.Add(0, Delta{.ids = {1}, .text = "yes"});
  answer.Add(0, End(0, FinishReason::kStop, 1, true));
  const Json whole = Json::parse(answer.Whole());
  EXPECT_EQ(whole["object"], "chat.completion");
  EXPECT_EQ(whole["choices"].dump(),
            R"([{"index":0,"message":{"role":"assistant","content":"yes"},"logprobs":null,)"
            R"("finish_reason":"stop"}])");
}

TEST(OpenAiTest, AChatsStreamBeginsWithTheRole) {
  std::string param;
  auto call =
      *ParseChat(R"({"messages": [{"role": "user", "content": "hi"}], "stream": true})", &param);
  CompletionAnswer answer(call, "chatcmpl-1", 7, "m", nullptr);
  const auto choice = [](const std::string& event) {
    return Json::parse(event.substr(6))["choices"][0].dump();
  };
  EXPECT_EQ(choice(answer.Add(0, Accepted{})),
            R"({"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,)"
            R"("finish_reason":null})");
  const std::string delta = answer.Add(0, Delta{.ids = {1}, .text = "yes"});
  EXPECT_THAT(delta, HasSubstr(R"("object":"chat.completion.chunk")"));
  EXPECT_EQ(choice(delta),
            R"({"index":0,"delta":{"content":"yes"},"logprobs":null,"finish_reason":null})");
  const auto end = Events(answer.Add(0, End(0, FinishReason::kLength, 1, true)));
  ASSERT_EQ(end.size(), 2u);
  EXPECT_EQ(choice(end[0]), R"({"index":0,"delta":{},"logprobs":null,"finish_reason":"length"})");
}

TEST(OpenAiTest, ErrorsAreOfOpenAisForm) {
  const auto error = ToOpenAiError(ResourceExhausted("full"), "");
  EXPECT_EQ(error.http_status, 429);
  EXPECT_EQ(error.body, R"({"error":{"message":"full","type":"rate_limit_error","param":null,)"
                        R"("code":"rate_limit_exceeded"}})");
  EXPECT_EQ(ToOpenAiError(InvalidArgument("x"), "n").http_status, 400);
  EXPECT_THAT(ToOpenAiError(InvalidArgument("x"), "n").body, HasSubstr(R"("param":"n")"));
  EXPECT_EQ(ToOpenAiError(NotFound("x")).http_status, 404);
  EXPECT_EQ(ToOpenAiError(Unavailable("x")).http_status, 503);
  EXPECT_EQ(ToOpenAiError(absl::DeadlineExceededError("x")).http_status, 504);
  EXPECT_EQ(ToOpenAiError(Internal("x")).http_status, 500);
}

}  // namespace
}  // namespace trireme
