// What one client is told, checked as it comes: in order, nothing twice, nothing after the end.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "server/api.h"

namespace trireme::test {

struct ClientLog {
  std::optional<Accepted> accepted;
  std::vector<int32_t> ids;
  std::string text;
  int n_waiting = 0;
  std::string last_waiting;
  std::optional<Finished> finished;
  std::optional<absl::Status> error;

  bool ended() const { return finished.has_value() || error.has_value(); }

  void Tell(Event event) {
    ASSERT_FALSE(ended()) << "told something after the end";
    if (auto* a = std::get_if<Accepted>(&event)) {
      ASSERT_FALSE(accepted.has_value());
      accepted = std::move(*a);
    } else if (auto* d = std::get_if<Delta>(&event)) {
      ASSERT_TRUE(accepted.has_value());
      ASSERT_EQ(static_cast<size_t>(d->offset), ids.size()) << "an id is missing or repeated";
      ASSERT_FALSE(d->ids.empty() && d->text.empty());
      ids.insert(ids.end(), d->ids.begin(), d->ids.end());
      text += d->text;
    } else if (auto* w = std::get_if<Waiting>(&event)) {
      ++n_waiting;
      last_waiting = w->reason;
    } else if (auto* f = std::get_if<Finished>(&event)) {
      ASSERT_EQ(static_cast<size_t>(f->usage.completion_tokens), ids.size());
      finished = std::move(*f);
    } else {
      error = std::get<absl::Status>(event);
    }
  }
};

}  // namespace trireme::test
