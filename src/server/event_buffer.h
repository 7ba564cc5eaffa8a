// What a client is still to be sent. While a write is under way, what comes in is merged: a slow
// reader gets fewer and larger deltas, and what waits for it is bounded by its max_tokens
// and n.
#pragma once

#include <deque>
#include <iterator>
#include <optional>
#include <utility>
#include <vector>

#include "server/api.h"

namespace trireme {

class EventBuffer {
 public:
  void Push(Event&& event) {
    // "Waiting" is about now: what follows makes it stale.
    if (!pending_.empty() && std::holds_alternative<Waiting>(pending_.back())) pending_.pop_back();
    auto* delta = std::get_if<Delta>(&event);
    Delta* before = delta == nullptr ? nullptr : LastOf(delta->choice);
    if (before == nullptr) {
      pending_.push_back(std::move(event));
      return;
    }
    if (before->ids.empty()) before->offset = delta->offset;
    Append(delta->ids, before->ids);
    before->text += delta->text;
    Append(delta->logprobs, before->logprobs);
    Append(delta->prompt_logprobs, before->prompt_logprobs);
  }

  std::optional<Event> Pop() {
    if (pending_.empty()) return std::nullopt;
    std::optional<Event> event(std::move(pending_.front()));
    pending_.pop_front();
    return event;
  }

 private:
  template <typename T>
  static void Append(std::vector<T>& from, std::vector<T>& to) {
    to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
  }

  // The delta of the choice that waits to be sent. Those of other choices may overtake it.
  Delta* LastOf(uint32_t choice) {
    for (auto it = pending_.rbegin(); it != pending_.rend(); ++it) {
      auto* delta = std::get_if<Delta>(&*it);
      if (delta != nullptr && delta->choice == choice) return delta;
    }
    return nullptr;
  }

  std::deque<Event> pending_;
};

}  // namespace trireme
