// Between controller and replica.
#include <utility>

#include "server/convert.h"
#include "server/convert_logprobs.h"

namespace trireme {
namespace {

using google::protobuf::RepeatedField;

std::vector<int32_t> ToVector(const RepeatedField<int32_t>& field) {
  return {field.begin(), field.end()};
}

void Assign(const std::vector<int32_t>& ids, RepeatedField<int32_t>* field) {
  field->Assign(ids.begin(), ids.end());
}

replica::v1::Finish FinishToProto(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return replica::v1::FINISH_STOP;
    case FinishReason::kLength:
      return replica::v1::FINISH_LENGTH;
    case FinishReason::kCancelled:
      return replica::v1::FINISH_CANCELLED;
    case FinishReason::kDeadline:
      return replica::v1::FINISH_DEADLINE;
    case FinishReason::kError:
      return replica::v1::FINISH_ERROR;
  }
  return replica::v1::FINISH_UNSPECIFIED;
}

FinishReason FinishFromProto(replica::v1::Finish finish) {
  switch (finish) {
    case replica::v1::FINISH_STOP:
      return FinishReason::kStop;
    case replica::v1::FINISH_LENGTH:
      return FinishReason::kLength;
    case replica::v1::FINISH_CANCELLED:
      return FinishReason::kCancelled;
    case replica::v1::FINISH_DEADLINE:
      return FinishReason::kDeadline;
    default:
      return FinishReason::kError;
  }
}

Credits FromProto(const replica::v1::Credits& proto) {
  return {.sequences = proto.sequences(), .kv_tokens = proto.kv_tokens()};
}

void Assign(const Credits& credits, replica::v1::Credits* proto) {
  proto->set_sequences(credits.sequences);
  proto->set_kv_tokens(credits.kv_tokens);
}

}  // namespace

int32_t NewestInCommon(RevisionRange a, RevisionRange b) {
  const int32_t newest = std::min(a.newest, b.newest);
  return newest >= std::max(a.oldest, b.oldest) ? newest : 0;
}

replica::v1::ReplicaInfo ToProto(const ReplicaInfo& info) {
  replica::v1::ReplicaInfo proto;
  proto.set_model(info.model);
  proto.set_fingerprint(info.fingerprint);
  proto.set_tokenizer_json(info.tokenizer_json);
  proto.set_tokenizer_config_json(info.tokenizer_config_json);
  proto.set_chat_template(info.chat_template);
  Assign(info.eos_ids, proto.mutable_eos_ids());
  proto.set_vocab_size(info.vocab_size);
  proto.set_context_length(info.context_length);
  proto.set_max_rows(info.max_rows);
  proto.set_kv_tokens(info.kv_tokens);
  proto.set_kv_block_size(info.kv_block_size);
  proto.set_tp(info.tp);
  proto.set_pp(info.pp);
  proto.set_sequence_parallel(info.sequence_parallel);
  proto.set_dtype(info.dtype);
  proto.set_activations(info.activations);
  proto.set_device(info.device);
  proto.set_version(info.version);
  proto.mutable_hosts()->Assign(info.hosts.begin(), info.hosts.end());
  proto.mutable_rank_pids()->Assign(info.rank_pids.begin(), info.rank_pids.end());
  if (info.number >= 0) proto.set_number(info.number);
  Assign(info.credits, proto.mutable_credits());
  return proto;
}

ReplicaInfo FromProto(replica::v1::ReplicaInfo&& proto) {
  ReplicaInfo info;
  info.model = std::move(*proto.mutable_model());
  info.fingerprint = std::move(*proto.mutable_fingerprint());
  info.tokenizer_json = std::move(*proto.mutable_tokenizer_json());
  info.tokenizer_config_json = std::move(*proto.mutable_tokenizer_config_json());
  info.chat_template = std::move(*proto.mutable_chat_template());
  info.eos_ids = ToVector(proto.eos_ids());
  info.vocab_size = proto.vocab_size();
  info.context_length = proto.context_length();
  info.max_rows = proto.max_rows();
  info.kv_tokens = proto.kv_tokens();
  info.kv_block_size = proto.kv_block_size();
  info.tp = proto.tp();
  info.pp = proto.pp();
  info.sequence_parallel = proto.sequence_parallel();
  info.dtype = std::move(*proto.mutable_dtype());
  info.activations = std::move(*proto.mutable_activations());
  info.device = std::move(*proto.mutable_device());
  info.version = std::move(*proto.mutable_version());
  info.hosts = {proto.hosts().begin(), proto.hosts().end()};
  info.rank_pids = {proto.rank_pids().begin(), proto.rank_pids().end()};
  if (proto.has_number()) info.number = proto.number();
  info.credits = FromProto(proto.credits());
  return info;
}

replica::v1::Submit ToProto(const SequenceRequest& sequence) {
  replica::v1::Submit proto;
  proto.set_id(sequence.id);
  Assign(sequence.prompt_ids, proto.mutable_prompt_ids());
  Assign(sequence.emitted_ids, proto.mutable_emitted_ids());
  proto.set_temperature(sequence.sampling.temperature);
  proto.set_top_k(sequence.sampling.top_k);
  proto.set_top_p(sequence.sampling.top_p);
  proto.set_min_p(sequence.sampling.min_p);
  proto.set_seed(sequence.sampling.seed);
  proto.set_choice(sequence.choice);
  proto.set_max_tokens(sequence.max_tokens);
  proto.set_min_tokens(sequence.min_tokens);
  Assign(sequence.stop_ids, proto.mutable_stop_ids());
  proto.set_dropout(sequence.dropout);
  proto.set_dropout_seed(sequence.dropout_seed);
  proto.set_cache_salt(sequence.cache_salt);
  proto.set_tenant(sequence.tenant);
  proto.set_weight(sequence.weight);
  proto.set_priority(sequence.priority);
  proto.set_alone_ids(sequence.alone_ids);
  proto.set_repetition_penalty(sequence.penalties.repetition);
  proto.set_presence_penalty(sequence.penalties.presence);
  proto.set_frequency_penalty(sequence.penalties.frequency);
  proto.mutable_logit_bias()->insert(sequence.logit_bias.begin(), sequence.logit_bias.end());
  if (sequence.logprobs) proto.set_logprobs(*sequence.logprobs);
  if (sequence.prompt_logprobs) proto.set_prompt_logprobs(*sequence.prompt_logprobs);
  return proto;
}

SequenceRequest FromProto(const replica::v1::Submit& proto) {
  SequenceRequest sequence;
  sequence.id = proto.id();
  sequence.prompt_ids = ToVector(proto.prompt_ids());
  sequence.emitted_ids = ToVector(proto.emitted_ids());
  sequence.sampling = {.temperature = proto.temperature(),
                       .top_k = proto.top_k(),
                       .top_p = proto.top_p(),
                       .min_p = proto.min_p(),
                       .seed = proto.seed()};
  sequence.choice = proto.choice();
  sequence.max_tokens = proto.max_tokens();
  sequence.min_tokens = proto.min_tokens();
  sequence.stop_ids = ToVector(proto.stop_ids());
  sequence.dropout = proto.dropout();
  sequence.dropout_seed = proto.dropout_seed();
  sequence.cache_salt = proto.cache_salt();
  sequence.tenant = proto.tenant();
  sequence.weight = proto.weight();
  sequence.priority = proto.priority();
  sequence.alone_ids = proto.alone_ids();
  sequence.penalties = {.repetition = proto.repetition_penalty(),
                        .presence = proto.presence_penalty(),
                        .frequency = proto.frequency_penalty()};
  sequence.logit_bias = {proto.logit_bias().begin(), proto.logit_bias().end()};
  if (proto.has_logprobs()) sequence.logprobs = proto.logprobs();
  if (proto.has_prompt_logprobs()) sequence.prompt_logprobs = proto.prompt_logprobs();
  return sequence;
}

replica::v1::Report ToProto(const StepReport& report) {
  replica::v1::Report proto;
  for (const SequenceDelta& delta : report.deltas) {
    replica::v1::SequenceDelta* to = proto.add_deltas();
    to->set_id(delta.id);
    to->set_offset(delta.offset);
    Assign(delta.ids, to->mutable_ids());
    if (delta.finish) to->set_finish(FinishToProto(*delta.finish));
    if (delta.matched_stop_id) to->set_matched_stop_id(*delta.matched_stop_id);
    to->set_cached_tokens(delta.cached_tokens);
    to->set_error(delta.error);
    to->set_alone(delta.alone);
    Assign(delta.logprobs, to->mutable_logprobs());
    Assign(delta.prompt_logprobs, to->mutable_prompt_logprobs());
  }
  const ReplicaStats& stats = report.stats;
  replica::v1::ReplicaStats* to = proto.mutable_stats();
  to->set_steps(stats.steps);
  to->set_running(stats.running);
  to->set_waiting(stats.waiting);
  to->set_kv_blocks_total(stats.kv_blocks_total);
  to->set_kv_blocks_used(stats.kv_blocks_used);
  to->set_kv_blocks_cached(stats.kv_blocks_cached);
  to->set_prefix_queries(stats.prefix_queries);
  to->set_prefix_hits(stats.prefix_hits);
  to->set_preemptions(stats.preemptions);
  to->set_prompt_tokens(stats.prompt_tokens);
  to->set_generated_tokens(stats.generated_tokens);
  if (report.credits.has_value()) Assign(*report.credits, proto.mutable_credits());
  return proto;
}

StepReport FromProto(const replica::v1::Report& proto) {
  StepReport report;
  for (const replica::v1::SequenceDelta& delta : proto.deltas()) {
    SequenceDelta& to = report.deltas.emplace_back();
    to.id = delta.id();
    to.offset = delta.offset();
    to.ids = ToVector(delta.ids());
    if (delta.has_finish()) to.finish = FinishFromProto(delta.finish());
    if (delta.has_matched_stop_id()) to.matched_stop_id = delta.matched_stop_id();
    to.cached_tokens = delta.cached_tokens();
    to.error = delta.error();
    to.alone = delta.alone();
    to.logprobs = ToLogprobs(delta.logprobs());
    to.prompt_logprobs = ToLogprobs(delta.prompt_logprobs());
  }
  const replica::v1::ReplicaStats& stats = proto.stats();
  report.stats = {.steps = stats.steps(),
                  .running = stats.running(),
                  .waiting = stats.waiting(),
                  .kv_blocks_total = stats.kv_blocks_total(),
                  .kv_blocks_used = stats.kv_blocks_used(),
                  .kv_blocks_cached = stats.kv_blocks_cached(),
                  .prefix_queries = stats.prefix_queries(),
                  .prefix_hits = stats.prefix_hits(),
                  .preemptions = stats.preemptions(),
                  .prompt_tokens = stats.prompt_tokens(),
                  .generated_tokens = stats.generated_tokens()};
  if (proto.has_credits()) report.credits = FromProto(proto.credits());
  return report;
}

}  // namespace trireme
