// Scheduler: iteration-level batching (Yu et al., "Orca", OSDI 2022) over paged KV (Kwon et al.,
// SOSP 2023) with chunked prefill (Agrawal et al. 2023). Pure host code without I/O or clock.
//
// Every step takes, within a token budget: first one token of each sequence that decodes, then
// chunks of prompts that are under way, then new sequences. Sequences of the tenant that has had
// the least service by its weight (tokens computed; see TenantService) go first; a tenant's own
// rank by priority, then by arrival. Where blocks run out, the last sequence behind the one in need
// gives its blocks back and is computed again later. A token can be planned as soon as its id is
// known, so a long prompt fills several plans in flight, and a decoding sequence sits out until its
// plan commits; with `ahead`, the id that the plan in flight draws can be planned, too: the device
// feeds it. Unless penalties follow from it. A prompt whose logprobs are wanted takes a row of
// logits for each of its tokens, of which a step has max_rows, and is not looked up in the prefix
// cache. While a sequence is to be alone, the others sit out and keep what they have.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "runtime/kv_block_pool.h"
#include "runtime/logit_edits.h"
#include "runtime/request.h"
#include "runtime/step_plan.h"
#include "runtime/tenant_service.h"

namespace trireme {

struct SchedulerOptions {
  int64_t n_blocks = 0;
  int64_t block_size = kKvBlockSize;
  int32_t max_rows = 64;           // sequences that hold blocks at once
  int32_t max_batch_tokens = 512;  // tokens of one step; at least max_rows
  int32_t context_length = 0;      // prompt + generated ids; at most n_blocks * block_size
  int32_t vocab_size = 0;
  int pp = 1;          // decoding rows are spread over this many plans
  bool ahead = false;  // two plans are in flight instead of one; only with pp = 1
  bool prefix_cache = true;
  int64_t sequence_parallel_tokens = INT64_MAX;  // steps of at least so many tokens use it
};

// What may be here at once: what runs together, and what is to be at hand when some of it ends, for
// about two steps.
Credits AllCredits(const SchedulerOptions& options);

class Scheduler {
 public:
  explicit Scheduler(const SchedulerOptions& options);

  // A request that cannot run ends at once with kError in the next report.
  void Submit(SequenceRequest request);
  void Cancel(uint64_t id);  // unknown ids are ignored

  // The next plan, or nothing where no token can be planned now.
  std::optional<StepPlan> Next();

  // The result of the oldest plan in flight.
  void Commit(const StepResult& result);

  bool has_work() const { return !running_.empty() || !waiting_.empty(); }
  int n_in_flight() const { return static_cast<int>(in_flight_.size()); }
  // How many plans keep every stage, and the device, at work.
  int wanted_in_flight() const { return options_.ahead ? 2 : options_.pp; }

  // What happened since the last call. No deltas: nothing to tell.
  StepReport TakeReport();

  // KV tokens that are free once all that wait have their blocks; negative if they cannot.
  int64_t n_free_tokens() const;

 private:
  using Rank = std::pair<int64_t, int64_t>;  // (-priority, arrival): unique
  // (its tenant's service, rank): smaller goes first. Only within a step it stays what it is.
  using Place = std::tuple<double, Rank>;

  struct Sequence {
    SequenceRequest request;
    Rank rank;
    TenantService::Tenant* tenant = nullptr;
    std::vector<int32_t> tokens;  // prompt, emitted, generated
    LogitEdits edits;
    std::vector<TokenLogprobs> prompt_logprobs;  // until told in a delta
    int64_t n_scored = 0;   // tokens of the prompt whose logprobs are there, or under way
    int64_t n_planned = 0;  // tokens whose KV is written or will be by a plan in flight
    std::vector<int32_t> blocks;
    std::string root;              // see KvBlockPool
    KvBlockPool::Chain chain = 0;  // of the blocks entered in the prefix tree
    int64_t n_chained = 0;         // how many those are
    int plans_in_flight = 0;
    int64_t n_drawn = 0;                   // ids that plans in flight draw
    int32_t last_sample = 0;               // the last of them, among that plan's samples
    bool ended = false;                    // reported; its blocks go with its last plan
    std::optional<int32_t> cached_tokens;  // until told in a delta
    int64_t n_charged = 0;                 // tokens that its tenant has been charged for
    bool told_alone = false;
    bool preempted = false;  // before: it goes on before others begin

    int64_t n_generated() const {
      return static_cast<int64_t>(tokens.size() - request.prompt_ids.size());
    }
    int64_t n_known() const { return static_cast<int64_t>(tokens.size()); }
    // Tokens of the prompt whose logits say something of the next one that is to be told.
    int64_t n_to_score() const {
      const bool wanted = request.prompt_logprobs.has_value() && request.emitted_ids.empty();
      return wanted ? static_cast<int64_t>(request.prompt_ids.size()) - 1 : 0;
    }
  };
  using Queue = std::map<Rank, std::unique_ptr<Sequence>>;

  struct SampleOf {
    Sequence* sequence;
    bool given;     // in the prompt
    int32_t n_top;  // see SampleRow
  };
  struct InFlight {
    int64_t plan_id;
    std::vector<Sequence*> sequences;  // in the plan
    std::vector<SampleOf> samples;     // as in the plan
  };

  std::string Refusal(const SequenceRequest& request) const;
  int64_t NumToPlan(const Sequence& sequence) const;
  Place PlaceOf(const Sequence& sequence) const;
  Sequence* FirstWaiting() const;  // null: there is none
  bool SitsOut(const Sequence& sequence) const { return alone_ != nullptr && &sequence != alone_; }
  void ChooseAlone();
  bool Admit(int64_t budget, StepPlan* plan);
  // Takes up to n tokens of the sequence into the plan; returns how many found blocks.
  int64_t Extend(Sequence& sequence, int64_t n, StepPlan* plan);
  // Of n tokens from the next one on, how many may be in the plan: each that an id is drawn or
  // scored after takes a row of logits.
  int64_t FitRows(const Sequence& sequence, int64_t n, const StepPlan& plan) const;
  bool GrowBlocks(Sequence& sequence, int64_t n_tokens);
  bool PreemptBehind(const Sequence& sequence);
  void Append(Sequence& sequence, int64_t n, StepPlan* plan);
  void EnterFullBlocks(Sequence& sequence);
  void FinishPlan(const std::vector<Sequence*>& sequences, StepPlan* plan);

  void AddSample(Sequence& sequence, SampleRow row, StepPlan* plan);
  void Accept(Sequence& sequence, int32_t id, std::optional<TokenLogprobs> logprobs);
  void End(Sequence& sequence, FinishReason reason, std::optional<int32_t> stop_id = {});
  SequenceDelta& DeltaOf(Sequence& sequence);

  SchedulerOptions options_;
  KvBlockPool pool_;
  TenantService tenants_;
  Sequence* alone_ = nullptr;  // the others sit out; planned once no plan with them is in flight
  Queue waiting_;              // hold no blocks
  Queue running_;
  std::unordered_map<Sequence*, std::unique_ptr<Sequence>> ending_;  // ended, plans in flight
  std::unordered_map<uint64_t, Sequence*> by_id_;                    // not ended
  std::deque<InFlight> in_flight_;
  InFlight* planning_ = nullptr;  // the plan that Next() is writing
  int64_t next_plan_ = 0;
  int64_t next_arrival_ = 0;
  std::vector<SequenceDelta> deltas_;
  std::unordered_map<uint64_t, size_t> delta_of_;
  ReplicaStats stats_;
};

}  // namespace trireme
