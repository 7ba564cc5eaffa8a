#include "runtime/links.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace trireme {

void Links::Open(uint64_t link, Replica::Sink sink) {
  CHECK(links_.emplace(link, Linked{.sink = std::move(sink)}).second) << "link " << link;
}

std::vector<uint64_t> Links::Close(uint64_t link) {
  std::vector<uint64_t> numbers;
  for (const auto& [id, number] : links_.at(link).sequences) {
    numbers.push_back(number);
    sequences_.erase(number);
  }
  links_.erase(link);
  std::ranges::sort(numbers);
  return numbers;
}

bool Links::Add(uint64_t link, SequenceRequest& request) {
  const auto it = links_.find(link);
  if (it == links_.end() || it->second.sequences.contains(request.id)) return false;
  const auto tokens = static_cast<int64_t>(request.prompt_ids.size() + request.emitted_ids.size());
  const uint64_t number = ++last_number_;
  it->second.sequences.emplace(request.id, number);
  it->second.tokens += tokens;
  sequences_[number] = {.link = link, .id = request.id, .tokens = tokens};
  request.id = number;
  return true;
}

uint64_t Links::Find(uint64_t link, uint64_t id) const {
  const auto linked = links_.find(link);
  if (linked == links_.end()) return 0;
  const auto sequence = linked->second.sequences.find(id);
  return sequence == linked->second.sequences.end() ? 0 : sequence->second;
}

void Links::Report(StepReport report, bool stats_are_news, int64_t free_kv_tokens) {
  std::map<uint64_t, std::vector<SequenceDelta>> deltas;  // by link
  for (SequenceDelta& delta : report.deltas) {
    const auto it = sequences_.find(delta.id);
    if (it == sequences_.end()) continue;  // its link is closed
    Sequence& sequence = it->second;
    Linked& linked = links_.at(sequence.link);
    const auto n = static_cast<int64_t>(delta.ids.size());
    sequence.tokens += n;
    linked.tokens += n;
    delta.id = sequence.id;
    const bool ended = delta.finish.has_value();
    deltas[sequence.link].push_back(std::move(delta));
    if (!ended) continue;
    linked.tokens -= sequence.tokens;
    linked.sequences.erase(sequence.id);
    sequences_.erase(it);
  }
  for (auto& [link, linked] : links_) {
    StepReport mine{.deltas = std::move(deltas[link]), .stats = report.stats};
    const Credits credits = CreditsOf(linked, free_kv_tokens);
    if (mine.deltas.empty() && !stats_are_news && credits.sequences == linked.credits.sequences) {
      continue;
    }
    if (credits != std::exchange(linked.credits, credits)) mine.credits = credits;
    linked.sink(std::move(mine));
  }
}

// A share of the whole in any case; what others have beyond theirs comes back as it ends. And what
// it has, with a share of what is free.
Credits Links::CreditsOf(const Linked& linked, int64_t free_kv_tokens) const {
  const auto n = static_cast<int64_t>(links_.size());
  const auto mine = static_cast<int64_t>(linked.sequences.size());
  const auto all = static_cast<int64_t>(sequences_.size());
  const int64_t free_sequences = std::max<int64_t>(0, all_.sequences - all);
  const auto share = [n](int64_t whole) { return (whole + n - 1) / n; };
  return {.sequences =
              static_cast<int32_t>(std::max(share(all_.sequences), mine + share(free_sequences))),
          .kv_tokens = std::max(share(all_.kv_tokens),
                                linked.tokens + share(std::max<int64_t>(0, free_kv_tokens)))};
}

}  // namespace trireme
