// What a client is still to be sent. While a write is under way, what comes in is merged: a slow
// reader gets fewer and larger deltas, and what waits for it is bounded by its max_tokens.
#pragma once

#include <deque>
#include <iterator>
#include <optional>
#include <utility>

#include "server/api.h"

namespace trireme {

class EventBuffer {
 public:
  void Push(Event&& event) {
    // "Waiting" is about now: what follows makes it stale.
    if (!pending_.empty() && std::holds_alternative<Waiting>(pending_.back())) pending_.pop_back();
    auto* delta = std::get_if<Delta>(&event);
    auto* last = pending_.empty() ? nullptr : std::get_if<Delta>(&pending_.back());
    if (delta == nullptr || last == nullptr || delta->choice != last->choice) {
      pending_.push_back(std::move(event));
      return;
    }
    if (last->ids.empty()) last->offset = delta->offset;
    last->ids.insert(last->ids.end(), delta->ids.begin(), delta->ids.end());
    last->text += delta->text;
  }

  std::optional<Event> Pop() {
    if (pending_.empty()) return std::nullopt;
    std::optional<Event> event(std::move(pending_.front()));
    pending_.pop_front();
    return event;
  }

 private:
  std::deque<Event> pending_;
};

}  // namespace trireme
