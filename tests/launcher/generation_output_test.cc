#include "launcher/generation_output.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "nlohmann/json.hpp"

namespace trireme {
namespace {

// What is printed after each of `events`.
std::vector<std::string> Print(bool json, const std::vector<Event>& events) {
  char* buffer = nullptr;
  size_t size = 0;
  std::FILE* out = open_memstream(&buffer, &size);
  GenerationOutput output(json, out);
  std::vector<std::string> printed;
  size_t seen = 0;
  for (const Event& event : events) {
    output.Add(event);
    std::fflush(out);
    printed.emplace_back(buffer + seen, size - seen);
    seen = size;
  }
  std::fclose(out);
  std::free(buffer);
  return printed;
}

const std::vector<Event> kEvents = {
    Accepted{.id = "r", .seed = 18446744073709551615u},
    Delta{.offset = 0, .ids = {5, 6}, .text = "It “"}, Waiting{"a replica was lost"},
    Delta{.offset = 2, .ids = {7}, .text = "was"},
    Finished{.reason = FinishReason::kLength,
             .usage = {4, 3, 2},
             .timings = {.queue_s = 0.25, .ttft_s = 0.5, .tbt_s_mean = 0.125, .total_s = 1}}};

TEST(GenerationOutput, TextComesAsItIsGenerated) {
  EXPECT_EQ(Print(false, kEvents), (std::vector<std::string>{"", "It “", "", "was", "\n"}));
}

TEST(GenerationOutput, JsonIsOneObjectAtTheEnd) {
  EXPECT_EQ(Print(true, kEvents),
            (std::vector<std::string>{
                "", "", "", "",
                R"({"text":"It “was","token_ids":[5,6,7],"finish_reason":"length",)"
                R"("usage":{"prompt_tokens":4,"completion_tokens":3,"cached_tokens":2},)"
                R"("timings":{"queue_s":0.25,"ttft_s":0.5,"tbt_s_mean":0.125,"total_s":1.0},)"
                R"("seed":18446744073709551615})"
                "\n"}));
}

TEST(GenerationOutput, JsonHasLogprobs) {
  const std::vector<Event> events = {
      Delta{.prompt_logprobs = {{.logprob = -4}}},
      Delta{.ids = {5}, .text = "a", .logprobs = {{.logprob = -0.5f, .top = {{7, -0.25f}}}}},
      Delta{.offset = 1, .ids = {6}, .text = "b", .logprobs = {{.logprob = -1}}}, Finished{}};
  const auto json = nlohmann::ordered_json::parse(Print(true, events).back());
  EXPECT_EQ(json["logprobs"].dump(), R"([{"logprob":-0.5,"top":[{"id":7,"logprob":-0.25}]},)"
                                     R"({"logprob":-1.0,"top":[]}])");
  EXPECT_EQ(json["prompt_logprobs"].dump(), R"([{"logprob":-4.0,"top":[]}])");
}

TEST(GenerationOutput, AModelWithoutATokenizerShowsIds) {
  EXPECT_EQ(Print(false, {Delta{.ids = {5, 6}}, Finished{}}).back(), "5,6\n");
}

TEST(GenerationOutput, AnErrorEndsTheTextWithALine) {
  EXPECT_EQ(Print(false, {Delta{.ids = {5}, .text = "It"}, Event(absl::CancelledError())}).back(),
            "\n");
  EXPECT_EQ(Print(true, {Delta{.ids = {5}, .text = "It"}, Event(absl::CancelledError())}).back(),
            "");
}

}  // namespace
}  // namespace trireme
