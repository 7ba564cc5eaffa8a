// What one client is told, checked as it comes: in order, nothing twice, nothing after the end.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "server/api.h"

namespace trireme::test {

struct ChoiceLog {
  std::vector<int32_t> ids;
  std::string text;
  std::vector<TokenLogprobs> logprobs, prompt_logprobs;
  std::optional<Finished> finished;

  void Tell(Delta&& d) {
    ASSERT_FALSE(finished.has_value()) << "told something after the end of the choice";
    ASSERT_EQ(static_cast<size_t>(d.offset), ids.size()) << "an id is missing or repeated";
    ASSERT_FALSE(d.ids.empty() && d.text.empty() && d.prompt_logprobs.empty());
    ASSERT_TRUE(d.logprobs.empty() || d.logprobs.size() == d.ids.size());
    logprobs.insert(logprobs.end(), d.logprobs.begin(), d.logprobs.end());
    if (!d.prompt_logprobs.empty()) {  // again where it came back without an id
      ASSERT_TRUE(ids.empty() && (prompt_logprobs.empty() || prompt_logprobs == d.prompt_logprobs));
      prompt_logprobs = d.prompt_logprobs;
    }
    ids.insert(ids.end(), d.ids.begin(), d.ids.end());
    text += d.text;
  }
  void Tell(Finished&& f) {
    ASSERT_FALSE(finished.has_value()) << "a choice ended twice";
    ASSERT_EQ(static_cast<size_t>(f.usage.completion_tokens), ids.size());
    finished = std::move(f);
  }
};

// Its own fields are those of the first choice.
struct ClientLog : ChoiceLog {
  std::optional<Accepted> accepted;
  std::map<uint32_t, ChoiceLog> others;  // choices after the first
  int n_waiting = 0;
  std::string last_waiting;
  std::optional<absl::Status> error;
  bool last = false;  // its last choice has ended

  // The stream is over, and another one for the same request begins.
  void Forget() {
    accepted.reset();
    error.reset();
    last = false;
    finished.reset();
    for (auto& [i, other] : others) other.finished.reset();
  }

  bool ended() const { return last || error.has_value(); }
  ChoiceLog& choice(uint32_t i) { return i == 0 ? *this : others[i]; }

  void Tell(Event event) {
    ASSERT_FALSE(ended()) << "told something after the end";
    if (auto* a = std::get_if<Accepted>(&event)) {
      ASSERT_FALSE(accepted.has_value());
      accepted = std::move(*a);
    } else if (auto* d = std::get_if<Delta>(&event)) {
      ASSERT_TRUE(accepted.has_value());
      choice(d->choice).Tell(std::move(*d));
    } else if (auto* w = std::get_if<Waiting>(&event)) {
      ++n_waiting;
      last_waiting = w->reason;
    } else if (auto* f = std::get_if<Finished>(&event)) {
      last = f->last;
      choice(f->choice).Tell(std::move(*f));
    } else {
      error = std::get<absl::Status>(event);
    }
  }
};

}  // namespace trireme::test
