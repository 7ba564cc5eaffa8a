#include "runtime/scheduler.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>
#include <utility>

#include "base/check.h"
#include "base/str.h"

namespace trireme {
namespace {

// Ids for which a sequence can be alone: others wait meanwhile.
constexpr int32_t kMostAlone = 64;

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The id's own, then the most probable ones as far as there are any.
TokenLogprobs LogprobsFrom(std::span<const Scored> scores) {
  TokenLogprobs logprobs{.logprob = scores[0].score};
  for (const Scored& top : scores.subspan(1)) {
    if (top.id >= 0) logprobs.top.push_back({top.id, top.score});
  }
  return logprobs;
}

// All that a prompt's keys and values depend on besides its ids, and the salt.
std::string CacheRoot(const SequenceRequest& request) {
  const uint64_t seed = request.dropout > 0 ? request.dropout_seed : 0;
  std::string root(reinterpret_cast<const char*>(&request.dropout), sizeof(request.dropout));
  root.append(reinterpret_cast<const char*>(&seed), sizeof(seed));
  return root + request.cache_salt;
}

}  // namespace

Credits AllCredits(const SchedulerOptions& options) {
  return {.sequences = options.max_rows + std::max(1, options.max_rows / 4),
          .kv_tokens = options.n_blocks * options.block_size + 2 * options.max_batch_tokens};
}

Scheduler::Scheduler(const SchedulerOptions& options)
    : options_(options), pool_(options.n_blocks, options.block_size) {
  CHECK_GE(options.max_batch_tokens, options.max_rows);
  CHECK_GT(options.max_rows, 0);
  CHECK_LE(options.context_length, options.n_blocks * options.block_size);
  CHECK(!options.ahead || options.pp == 1);
}

std::string Scheduler::Refusal(const SequenceRequest& request) const {
  const size_t n_prompt = request.prompt_ids.size();
  if (n_prompt == 0) return "the prompt is empty";
  for (const auto& n_top : {request.logprobs, request.prompt_logprobs}) {
    if (n_top.has_value() && (*n_top < 0 || *n_top > kMaxTopLogprobs)) {
      return StrCat("logprobs of ", *n_top, " ids, expected at most ", kMaxTopLogprobs);
    }
  }
  if (n_prompt + static_cast<size_t>(std::max(request.max_tokens, 1)) >
      static_cast<size_t>(options_.context_length)) {
    return StrCat(n_prompt, " prompt tokens and ", request.max_tokens,
                  " to generate do not fit the context of ", options_.context_length);
  }
  for (const auto* ids : {&request.prompt_ids, &request.emitted_ids}) {
    for (int32_t id : *ids) {
      if (id < 0 || id >= options_.vocab_size) {
        return StrCat("token id ", id, " is outside the vocabulary of ", options_.vocab_size);
      }
    }
  }
  return "";
}

void Scheduler::Submit(SequenceRequest request) {
  auto sequence = std::make_unique<Sequence>();
  sequence->rank = {-int64_t{request.priority}, next_arrival_++};
  sequence->tokens = request.prompt_ids;
  sequence->tokens.insert(sequence->tokens.end(), request.emitted_ids.begin(),
                          request.emitted_ids.end());
  std::sort(request.stop_ids.begin(), request.stop_ids.end());
  request.stop_ids.erase(std::unique(request.stop_ids.begin(), request.stop_ids.end()),
                         request.stop_ids.end());
  sequence->edits = LogitEdits(request);
  const bool weighs = std::isfinite(request.weight) && request.weight > 0;
  sequence->tenant = &tenants_.Enter(request.tenant, weighs ? request.weight : 1);
  const auto n_emitted = static_cast<int32_t>(request.emitted_ids.size());
  request.alone_ids = std::min(request.alone_ids, n_emitted + kMostAlone);
  sequence->root = CacheRoot(request);
  sequence->request = std::move(request);
  Sequence& queued = *sequence;
  CHECK(by_id_.emplace(queued.request.id, &queued).second) << "sequence " << queued.request.id;
  waiting_.emplace(queued.rank, std::move(sequence));

  if (std::string refusal = Refusal(queued.request); !refusal.empty()) {
    DeltaOf(queued).error = std::move(refusal);
    End(queued, FinishReason::kError);
  } else if (queued.n_generated() >= queued.request.max_tokens) {
    End(queued, FinishReason::kLength);
  }
  ChooseAlone();
}

void Scheduler::Cancel(uint64_t id) {
  if (auto it = by_id_.find(id); it != by_id_.end()) End(*it->second, FinishReason::kCancelled);
  ChooseAlone();
}

Scheduler::Place Scheduler::PlaceOf(const Sequence& sequence) const {
  return {sequence.tenant->time, sequence.rank};
}

// One after the other, the oldest first. It is told before its first plan, which it may not
// outlive.
void Scheduler::ChooseAlone() {
  const auto wants_it = [](const Sequence& s) { return s.request.alone_ids > s.n_generated(); };
  if (alone_ == nullptr || !wants_it(*alone_)) {
    alone_ = nullptr;
    for (const Queue* queue : {&running_, &waiting_}) {
      for (const auto& [rank, sequence] : *queue) {
        const bool older = alone_ == nullptr || rank.second < alone_->rank.second;
        if (wants_it(*sequence) && older) alone_ = sequence.get();
      }
    }
  }
  if (alone_ == nullptr || alone_->told_alone || !in_flight_.empty()) return;
  alone_->told_alone = true;
  SequenceDelta& delta = DeltaOf(*alone_);
  delta.alone = true;
  if (delta.ids.empty()) delta.offset = static_cast<int32_t>(alone_->n_generated());
}

// An id that is under way can be planned where another one may follow it.
int64_t Scheduler::NumToPlan(const Sequence& sequence) const {
  const int64_t known = sequence.n_known() - sequence.n_planned;
  if (!options_.ahead || sequence.n_drawn == 0 || sequence.edits.follow_ids()) return known;
  const bool may_go_on = sequence.n_generated() + sequence.n_drawn < sequence.request.max_tokens;
  return may_go_on ? known + sequence.n_drawn : 0;
}

std::optional<StepPlan> Scheduler::Next() {
  if (alone_ != nullptr && !alone_->told_alone) return std::nullopt;
  StepPlan plan;
  plan.id = next_plan_;
  plan.q_starts.push_back(0);
  InFlight in_flight{.plan_id = plan.id};
  planning_ = &in_flight;

  int64_t n_decoding = 0;
  std::vector<Sequence*> decoding, prefilling;
  for (auto& [rank, sequence] : running_) {
    if (SitsOut(*sequence)) continue;
    const int64_t n = NumToPlan(*sequence);
    if (n <= 1) ++n_decoding;
    if (n == 1) decoding.push_back(sequence.get());
    if (n > 1) prefilling.push_back(sequence.get());
  }
  const auto by_place = [this](const Sequence* s) { return PlaceOf(*s); };
  std::ranges::sort(decoding, {}, by_place);
  std::ranges::sort(prefilling, {}, by_place);
  // With pp stages, pp plans share the decoding rows, so that every stage has one.
  const int64_t most_rows = CeilDiv(n_decoding, options_.pp);
  const int64_t preemptions = stats_.preemptions;
  for (Sequence* sequence : decoding) {
    if (plan.n_sequences() >= most_rows) break;
    if (running_.count(sequence->rank) == 0) continue;
    // Those behind it sit out, too, so that their blocks can be had when their plans commit.
    if (Extend(*sequence, 1, &plan) == 0) break;
  }
  for (Sequence* sequence : prefilling) {
    const int64_t budget = options_.max_batch_tokens - plan.n_tokens();
    if (budget <= 0) break;
    if (running_.count(sequence->rank) > 0) Extend(*sequence, budget, &plan);
  }
  // A step that had to take blocks away has none to give to newcomers.
  while (stats_.preemptions == preemptions &&
         Admit(options_.max_batch_tokens - plan.n_tokens(), &plan)) {
  }

  planning_ = nullptr;
  if (plan.tokens.empty()) return std::nullopt;
  FinishPlan(in_flight.sequences, &plan);
  in_flight_.push_back(std::move(in_flight));
  ++next_plan_;
  return plan;
}

Scheduler::Sequence* Scheduler::FirstWaiting() const {
  const auto place = [this](const Sequence& s) { return std::pair(!s.preempted, PlaceOf(s)); };
  Sequence* first = nullptr;
  for (const auto& [rank, sequence] : waiting_) {
    if (SitsOut(*sequence)) continue;
    if (first == nullptr || place(*sequence) < place(*first)) first = sequence.get();
  }
  return first;
}

bool Scheduler::Admit(int64_t budget, StepPlan* plan) {
  if (budget <= 0) return false;
  if (static_cast<int32_t>(plan->samples.size()) >= options_.max_rows) return false;
  Sequence* const first = FirstWaiting();
  if (first == nullptr) return false;
  Sequence& sequence = *first;
  const auto n_held = [this] { return static_cast<int32_t>(running_.size() + ending_.size()); };
  while (n_held() >= options_.max_rows) {
    if (&sequence != alone_ || !PreemptBehind(sequence)) return false;
  }

  // The last token is always computed: its logits are wanted.
  const int64_t n_tokens = static_cast<int64_t>(sequence.tokens.size());
  KvBlockPool::Match match;
  if (options_.prefix_cache && sequence.n_scored == sequence.n_to_score()) {
    match = pool_.Acquire(sequence.root, sequence.tokens, (n_tokens - 1) / pool_.block_size());
  }
  const int64_t n_matched = static_cast<int64_t>(match.blocks.size());
  while (CeilDiv(n_tokens + 1, pool_.block_size()) - n_matched > pool_.n_free()) {
    if (&sequence == alone_ && PreemptBehind(sequence)) continue;
    pool_.Release(match.blocks);
    return false;
  }
  stats_.prefix_queries += n_tokens;
  stats_.prefix_hits += n_matched * pool_.block_size();
  sequence.blocks = std::move(match.blocks);
  sequence.chain = match.chain;
  sequence.n_chained = n_matched;
  sequence.n_planned = n_matched * pool_.block_size();
  if (sequence.n_generated() == static_cast<int64_t>(sequence.request.emitted_ids.size())) {
    sequence.cached_tokens = static_cast<int32_t>(std::min<int64_t>(
        sequence.n_planned, static_cast<int64_t>(sequence.request.prompt_ids.size())));
  }
  running_.insert(waiting_.extract(sequence.rank));
  Extend(sequence, budget, plan);
  return true;
}

int64_t Scheduler::Extend(Sequence& sequence, int64_t n, StepPlan* plan) {
  n = FitRows(sequence, std::min(n, NumToPlan(sequence)), *plan);
  if (n <= 0) return 0;
  while (!GrowBlocks(sequence, sequence.n_planned + n)) {
    if (PreemptBehind(sequence)) continue;
    // What the blocks at hand still hold.
    n = static_cast<int64_t>(sequence.blocks.size()) * pool_.block_size() - sequence.n_planned;
    if (n <= 0) return 0;
  }
  Append(sequence, n, plan);
  return n;
}

int64_t Scheduler::FitRows(const Sequence& sequence, int64_t n, const StepPlan& plan) const {
  const int64_t left = options_.max_rows - static_cast<int64_t>(plan.samples.size());
  const int64_t begin = sequence.n_planned;
  if (begin + n <= sequence.n_scored) return n;  // computed again
  if (sequence.n_scored < sequence.n_to_score())
    return std::min(n, sequence.n_scored + left - begin);
  return left > 0 ? n : std::min(n, sequence.n_known() - 1 - begin);
}

bool Scheduler::GrowBlocks(Sequence& sequence, int64_t n_tokens) {
  while (static_cast<int64_t>(sequence.blocks.size()) * pool_.block_size() < n_tokens) {
    const int32_t block = pool_.Allocate();
    if (block < 0) return false;
    sequence.blocks.push_back(block);
  }
  return true;
}

// Takes its blocks from the last sequence behind this one; from any if this one is to be alone.
bool Scheduler::PreemptBehind(const Sequence& sequence) {
  Sequence* victim = nullptr;
  for (const auto& [rank, candidate] : running_) {
    if (candidate.get() == &sequence || candidate->plans_in_flight > 0) continue;
    const Place place = PlaceOf(*candidate);
    if (&sequence != alone_ && place < PlaceOf(sequence)) continue;
    if (victim == nullptr || place > PlaceOf(*victim)) victim = candidate.get();
  }
  if (victim == nullptr) return false;
  pool_.Release(victim->blocks);
  victim->blocks.clear();
  victim->chain = 0;
  victim->n_chained = 0;
  victim->n_planned = 0;
  victim->preempted = true;
  ++stats_.preemptions;
  waiting_.insert(running_.extract(victim->rank));
  return true;
}

void Scheduler::Append(Sequence& sequence, int64_t n, StepPlan* plan) {
  const int64_t begin = sequence.n_planned, end = begin + n;
  const SequenceRequest& request = sequence.request;
  for (int64_t i = begin; i < end; ++i) {
    plan->tokens.push_back(i < sequence.n_known() ? sequence.tokens[i] : ~sequence.last_sample);
    plan->positions.push_back(static_cast<int32_t>(i));
    plan->slots.push_back(static_cast<int32_t>(
        sequence.blocks[i / pool_.block_size()] * pool_.block_size() + i % pool_.block_size()));
    plan->dropout.push_back({request.dropout, request.dropout_seed, static_cast<int32_t>(i)});
  }
  plan->q_starts.push_back(static_cast<int32_t>(plan->n_tokens()));
  plan->kv_lens.push_back(static_cast<int32_t>(end));
  CHECK(end <= sequence.n_known() || n_in_flight() == 1) << "ids of the last plan can be fed";
  sequence.n_planned = end;
  // What is computed again after its blocks were taken is not the tenant's doing.
  if (const int64_t fresh = end - std::max(begin, sequence.n_charged); fresh > 0) {
    TenantService::Charge(*sequence.tenant, fresh);
    sequence.n_charged = end;
  }
  ++sequence.plans_in_flight;
  planning_->sequences.push_back(&sequence);
  for (; sequence.n_scored < std::min(end, sequence.n_to_score()); ++sequence.n_scored) {
    AddSample(sequence,
              {.row = static_cast<int32_t>(plan->n_tokens() - (end - sequence.n_scored)),
               .params = {.temperature = 0},
               .given = sequence.tokens[sequence.n_scored + 1],
               .n_top = *request.prompt_logprobs},
              plan);
  }
  if (end < sequence.n_known()) {
    stats_.prompt_tokens += n;
  } else {
    stats_.prompt_tokens += n - 1;
    const int64_t index = sequence.n_generated() + sequence.n_drawn;
    ++sequence.n_drawn;
    sequence.last_sample = static_cast<int32_t>(plan->samples.size());
    AddSample(sequence,
              {.row = static_cast<int32_t>(plan->n_tokens() - 1),
               .params = request.sampling,
               .choice = request.choice,
               .token_index = static_cast<uint32_t>(index),
               .n_top = request.logprobs.value_or(-1)},
              plan);
    sequence.edits.AppendTo(&plan->edits, sequence.last_sample,
                            index < request.min_tokens ? request.stop_ids : std::vector<int32_t>());
  }
  EnterFullBlocks(sequence);
}

void Scheduler::AddSample(Sequence& sequence, SampleRow row, StepPlan* plan) {
  plan->samples.push_back(row);
  planning_->samples.push_back({&sequence, row.given >= 0, row.n_top});
}

// Plans run in order on every rank, so what this plan writes, any later one may read.
void Scheduler::EnterFullBlocks(Sequence& sequence) {
  if (!options_.prefix_cache) return;
  const int64_t size = pool_.block_size();
  const int64_t n = std::min(sequence.n_planned, sequence.n_known());
  for (; (sequence.n_chained + 1) * size <= n; ++sequence.n_chained) {
    const std::span<const int32_t> ids(sequence.tokens.data() + sequence.n_chained * size,
                                       static_cast<size_t>(size));
    sequence.chain =
        pool_.Insert(sequence.root, sequence.chain, ids, sequence.blocks[sequence.n_chained]);
  }
}

void Scheduler::FinishPlan(const std::vector<Sequence*>& sequences, StepPlan* plan) {
  size_t most = 0;
  for (const Sequence* sequence : sequences) most = std::max(most, sequence->blocks.size());
  plan->max_blocks = static_cast<int32_t>(most);
  plan->block_table.assign(sequences.size() * most, -1);
  bool dropout = false;
  for (size_t i = 0; i < sequences.size(); ++i) {
    std::copy(sequences[i]->blocks.begin(), sequences[i]->blocks.end(),
              plan->block_table.begin() + static_cast<int64_t>(i * most));
    dropout |= sequences[i]->request.dropout > 0;
  }
  if (!dropout) plan->dropout.clear();
  plan->sequence_parallel = plan->n_tokens() >= options_.sequence_parallel_tokens;
}

void Scheduler::Commit(const StepResult& result) {
  CHECK(!in_flight_.empty());
  const InFlight plan = std::move(in_flight_.front());
  in_flight_.pop_front();
  CHECK_EQ(plan.plan_id, result.plan_id);
  CHECK_EQ(plan.samples.size(), result.ids.size());
  ++stats_.steps;
  for (Sequence* sequence : plan.sequences) --sequence->plans_in_flight;
  std::span<const Scored> scores = result.logprobs;
  for (size_t i = 0; i < plan.samples.size(); ++i) {
    const auto& [sequence, given, n_top] = plan.samples[i];
    std::optional<TokenLogprobs> logprobs;
    if (n_top >= 0) {
      logprobs = LogprobsFrom(scores.first(1 + static_cast<size_t>(n_top)));
      scores = scores.subspan(1 + static_cast<size_t>(n_top));
    }
    if (given) {
      sequence->prompt_logprobs.push_back(*std::move(logprobs));
      continue;
    }
    --sequence->n_drawn;
    if (!sequence->ended) Accept(*sequence, result.ids[i], std::move(logprobs));
  }
  CHECK(scores.empty());
  for (Sequence* sequence : plan.sequences) {
    auto it = ending_.find(sequence);
    if (it != ending_.end() && sequence->plans_in_flight == 0) {
      pool_.Release(sequence->blocks);
      ending_.erase(it);
    }
  }
  ChooseAlone();
}

void Scheduler::Accept(Sequence& sequence, int32_t id, std::optional<TokenLogprobs> logprobs) {
  const SequenceRequest& request = sequence.request;
  const bool stops =
      std::find(request.stop_ids.begin(), request.stop_ids.end(), id) != request.stop_ids.end();
  if (stops && sequence.n_generated() >= request.min_tokens) {
    End(sequence, FinishReason::kStop, id);
    return;
  }
  SequenceDelta& delta = DeltaOf(sequence);
  if (delta.ids.empty()) delta.offset = static_cast<int32_t>(sequence.n_generated());
  delta.ids.push_back(id);
  if (logprobs.has_value()) delta.logprobs.push_back(*std::move(logprobs));
  sequence.tokens.push_back(id);
  sequence.edits.Count(id);
  ++stats_.generated_tokens;
  EnterFullBlocks(sequence);
  if (sequence.n_generated() >= request.max_tokens) End(sequence, FinishReason::kLength);
}

void Scheduler::End(Sequence& sequence, FinishReason reason, std::optional<int32_t> stop_id) {
  SequenceDelta& delta = DeltaOf(sequence);
  if (delta.ids.empty()) delta.offset = static_cast<int32_t>(sequence.n_generated());
  delta.finish = reason;
  delta.matched_stop_id = stop_id;
  sequence.ended = true;
  by_id_.erase(sequence.request.id);
  if (alone_ == &sequence) alone_ = nullptr;
  tenants_.Leave(sequence.request.tenant);

  Queue& queue = running_.count(sequence.rank) > 0 ? running_ : waiting_;
  std::unique_ptr<Sequence> owned = std::move(queue.extract(sequence.rank).mapped());
  if (sequence.plans_in_flight > 0) {
    ending_.emplace(&sequence, std::move(owned));
  } else {
    pool_.Release(sequence.blocks);
  }
}

SequenceDelta& Scheduler::DeltaOf(Sequence& sequence) {
  auto [it, added] = delta_of_.try_emplace(sequence.request.id, deltas_.size());
  if (added) deltas_.push_back({.id = sequence.request.id});
  SequenceDelta& delta = deltas_[it->second];
  if (sequence.cached_tokens.has_value()) delta.cached_tokens = *sequence.cached_tokens;
  if (!sequence.prompt_logprobs.empty()) {
    delta.prompt_logprobs = std::exchange(sequence.prompt_logprobs, {});
  }
  return delta;
}

int64_t Scheduler::n_free_tokens() const {
  int64_t n_blocks = pool_.n_free();
  for (const auto& [rank, sequence] : waiting_) {
    n_blocks -= CeilDiv(sequence->n_known() + 1, pool_.block_size());
  }
  return n_blocks * pool_.block_size();
}

StepReport Scheduler::TakeReport() {
  StepReport report{.deltas = std::move(deltas_), .stats = stats_};
  deltas_.clear();
  delta_of_.clear();
  report.stats.running = static_cast<int32_t>(running_.size() + ending_.size());
  report.stats.waiting = static_cast<int32_t>(waiting_.size());
  report.stats.kv_blocks_total = pool_.n_blocks();
  report.stats.kv_blocks_used = pool_.n_used();
  report.stats.kv_blocks_cached = pool_.n_cached();
  return report;
}

}  // namespace trireme
