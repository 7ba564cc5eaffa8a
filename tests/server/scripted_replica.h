// A replica without a model: each id is a function of the seed, the prompt and the ids before it,
// so that a test knows what an undisturbed run gives. And a tokenizer small enough to know by
// heart.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/request.h"
#include "server/model.h"

namespace trireme::test {

// Ids 0..25 are the letters, 26 the space, 27 </s> (end of text, special), 28 and 29 the two bytes
// of "é".
inline constexpr int32_t kVocab = 30;
inline constexpr int32_t kSpace = 26;
inline constexpr int32_t kEos = 27;
inline constexpr int32_t kFirstHalf = 28;
inline constexpr int32_t kSecondHalf = 29;

inline std::string TokenizerJson() {
  std::string vocab;
  for (char c = 'a'; c <= 'z'; ++c) vocab += StrCat("\"", c, "\":", c - 'a', ",");
  return StrCat(
      R"({"version":"1.0","truncation":null,"padding":null,"added_tokens":[)",
      R"({"id":27,"content":"</s>","single_word":false,"lstrip":false,"rstrip":false,)",
      R"("normalized":false,"special":true}],"normalizer":null,"pre_tokenizer":)",
      R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,)",
      R"("use_regex":true},"post_processor":null,"decoder":{"type":"ByteLevel",)",
      R"("add_prefix_space":true,"trim_offsets":true,"use_regex":true},"model":)",
      R"({"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,)",
      R"("end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,"vocab":{)", vocab,
      R"("Ġ":26,"</s>":27,"Ã":28,"©":29},"merges":[]}})");
}

inline std::vector<int32_t> Ids(const std::string& letters) {
  std::vector<int32_t> ids;
  for (char c : letters) ids.push_back(c == ' ' ? kSpace : c - 'a');
  return ids;
}

inline ReplicaInfo Info(const std::string& model = "tiny", const std::string& fingerprint = "f1") {
  ReplicaInfo info;
  info.model = model;
  info.fingerprint = fingerprint;
  info.tokenizer_json = TokenizerJson();
  info.eos_ids = {kEos};
  info.vocab_size = kVocab;
  info.context_length = 64;
  info.max_rows = 4;
  info.kv_tokens = 1024;
  info.kv_block_size = 16;
  info.credits = {.sequences = 5, .kv_tokens = 1024};
  info.dtype = "f32";
  info.device = "script";
  info.hosts = {"here"};
  info.rank_pids = {1};
  return info;
}

// What the script draws next. `weights` stands for the weights: others draw other ids.
inline int32_t NextId(const SequenceRequest& sequence, std::span<const int32_t> generated,
                      uint64_t weights) {
  uint64_t h = sequence.sampling.seed * 0x9E3779B97F4A7C15u + 1 + weights +
               0x2545F4914F6CDD1Du * sequence.choice;
  const auto mix = [&h](int32_t id) { h = (h ^ static_cast<uint64_t>(id)) * 0xD6E8FEB86659FD93u; };
  for (int32_t id : sequence.prompt_ids) mix(id);
  for (int32_t id : generated) mix(id);
  if (!generated.empty() && generated.back() == kFirstHalf) return kSecondHalf;
  const auto n = static_cast<int32_t>((h >> 33) % 12);  // few letters, so that stop strings occur
  if (n == 0) return kFirstHalf;
  if (n == 1 && static_cast<int32_t>(generated.size()) >= sequence.min_tokens) return kEos;
  return n % 4;
}

// By the id and its place, so that a test sees which is whose.
inline TokenLogprobs LogprobsOf(int32_t id, size_t index) {
  const auto place = static_cast<float>(index);
  return {.logprob = -static_cast<float>(id) - place / 1024, .top = {{id, -place}}};
}

// The next step of a sequence whose generated ids are `generated`; adds to them unless it ends.
inline SequenceDelta Advance(const SequenceRequest& sequence, std::vector<int32_t>& generated,
                             uint64_t weights) {
  SequenceDelta delta{.id = sequence.id, .offset = static_cast<int32_t>(generated.size())};
  if (sequence.prompt_logprobs.has_value() && generated.empty()) {
    for (size_t i = 1; i < sequence.prompt_ids.size(); ++i) {
      delta.prompt_logprobs.push_back(LogprobsOf(sequence.prompt_ids[i], i));
    }
  }
  const int32_t id = NextId(sequence, generated, weights);
  if (std::ranges::count(sequence.stop_ids, id) > 0 && delta.offset >= sequence.min_tokens) {
    delta.finish = FinishReason::kStop;
    delta.matched_stop_id = id;
    return delta;
  }
  if (sequence.logprobs.has_value()) delta.logprobs.push_back(LogprobsOf(id, generated.size()));
  generated.push_back(id);
  delta.ids.push_back(id);
  if (static_cast<int32_t>(generated.size()) == sequence.max_tokens) {
    delta.finish = FinishReason::kLength;
  }
  return delta;
}

// The engine side of a replica: sequences, stepped by hand.
class ScriptedReplica {
 public:
  explicit ScriptedReplica(uint64_t weights = 0) : weights_(weights) {}

  void Submit(SequenceRequest sequence) {
    std::vector<int32_t> generated = sequence.emitted_ids;
    running_.push_back({std::move(sequence), std::move(generated)});
  }

  void Cancel(uint64_t id) { cancelled_.push_back(id); }

  size_t n_running() const { return running_.size(); }

  // A sequence is to be told that it is alone; the next step does so.
  bool AwaitsAlone() const {
    return std::ranges::any_of(running_, [](const Running& r) { return r.awaits_alone(); });
  }

  // A step in which each sequence gets as many ids as `n_ids` says.
  template <typename F>
  StepReport Step(F&& n_ids) {
    StepReport report;
    report.stats.steps = ++steps_;
    std::vector<Running> still;
    for (Running& r : running_) {
      if (std::ranges::count(cancelled_, r.sequence.id) > 0) {
        report.deltas.push_back({.id = r.sequence.id,
                                 .offset = static_cast<int32_t>(r.generated.size()),
                                 .finish = FinishReason::kCancelled});
        continue;
      }
      bool ended = false;
      const bool alone = r.awaits_alone();
      r.told_alone |= alone;
      int n = n_ids();
      if (n == 0 && alone) {
        report.deltas.push_back({.id = r.sequence.id,
                                 .offset = static_cast<int32_t>(r.generated.size()),
                                 .alone = true});
      }
      if (n > 0) {
        SequenceDelta delta = Advance(r.sequence, r.generated, weights_);
        while (--n > 0 && !delta.finish.has_value()) {
          SequenceDelta more = Advance(r.sequence, r.generated, weights_);
          delta.ids.insert(delta.ids.end(), more.ids.begin(), more.ids.end());
          delta.logprobs.insert(delta.logprobs.end(), more.logprobs.begin(), more.logprobs.end());
          delta.finish = more.finish;
          delta.matched_stop_id = more.matched_stop_id;
        }
        ended = delta.finish.has_value();
        delta.alone = alone;
        report.deltas.push_back(std::move(delta));
      }
      if (!ended) still.push_back(std::move(r));
    }
    running_ = std::move(still);
    cancelled_.clear();
    return report;
  }

  StepReport Step() {
    return Step([] { return 1; });
  }

 private:
  struct Running {
    SequenceRequest sequence;
    std::vector<int32_t> generated;
    bool told_alone = false;
    bool awaits_alone() const {
      return sequence.alone_ids > static_cast<int32_t>(generated.size()) && !told_alone;
    }
  };
  std::vector<Running> running_;
  std::vector<uint64_t> cancelled_;
  const uint64_t weights_;
  int64_t steps_ = 0;
};

// All ids of an undisturbed run, to the first stop id or max_tokens.
inline std::vector<int32_t> Undisturbed(const SequenceRequest& sequence, uint64_t weights = 0) {
  std::vector<int32_t> ids = sequence.emitted_ids;
  while (!Advance(sequence, ids, weights).finish.has_value()) {
  }
  return ids;
}

}  // namespace trireme::test
