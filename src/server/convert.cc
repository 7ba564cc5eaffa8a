#include "server/convert.h"

#include <utility>

#include "base/check.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "google/protobuf/unknown_field_set.h"
#include "server/convert_logprobs.h"
#include "server/keys.h"

namespace trireme {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::RepeatedField;

std::vector<int32_t> ToVector(const RepeatedField<int32_t>& field) {
  return {field.begin(), field.end()};
}

void Assign(const std::vector<int32_t>& ids, RepeatedField<int32_t>* field) {
  field->Assign(ids.begin(), ids.end());
}

}  // namespace

absl::Status CheckNoUnknownFields(const google::protobuf::Message& message) {
  const auto* reflection = message.GetReflection();
  const auto& unknown = reflection->GetUnknownFields(message);
  if (!unknown.empty()) {
    return InvalidArgument("field ", unknown.field(0).number(), " of ",
                           message.GetDescriptor()->full_name(), " is not known to this server");
  }
  std::vector<const FieldDescriptor*> fields;
  reflection->ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    if (field->message_type() == nullptr) continue;
    if (!field->is_repeated()) {
      RETURN_IF_ERROR(CheckNoUnknownFields(reflection->GetMessage(message, field)));
      continue;
    }
    for (int i = 0; i < reflection->FieldSize(message, field); ++i) {
      RETURN_IF_ERROR(CheckNoUnknownFields(reflection->GetRepeatedMessage(message, field, i)));
    }
  }
  return absl::OkStatus();
}

// ---- Requests.

absl::StatusOr<GenerateRequest> FromProto(const v1::GenerateRequest& proto) {
  RETURN_IF_ERROR(CheckNoUnknownFields(proto));
  GenerateRequest request;
  request.model = proto.model();
  request.request_id = proto.request_id();
  switch (proto.input_case()) {
    case v1::GenerateRequest::kText:
      request.text = proto.text();
      break;
    case v1::GenerateRequest::kIds:
      request.ids = ToVector(proto.ids().ids());
      break;
    case v1::GenerateRequest::kChat: {
      ASSIGN_OR_RETURN(Chat chat, FromProto(proto.chat()));
      request.chat = std::make_shared<const Chat>(std::move(chat));
      break;
    }
    case v1::GenerateRequest::INPUT_NOT_SET:
      return InvalidArgument("input is missing: text, ids or chat");
  }
  if (proto.has_n()) request.n = proto.n();
  if (proto.has_max_tokens()) request.max_tokens = proto.max_tokens();
  if (proto.has_min_tokens()) request.min_tokens = proto.min_tokens();
  if (proto.has_temperature()) request.temperature = proto.temperature();
  if (proto.has_top_k()) request.top_k = proto.top_k();
  if (proto.has_top_p()) request.top_p = proto.top_p();
  if (proto.has_min_p()) request.min_p = proto.min_p();
  if (proto.has_seed()) request.seed = proto.seed();
  request.stop = {proto.stop().begin(), proto.stop().end()};
  request.stop_token_ids = ToVector(proto.stop_token_ids());
  request.ignore_eos = proto.ignore_eos();
  request.priority = proto.priority();
  if (proto.has_timeout_s()) request.timeout_s = proto.timeout_s();
  request.cache_salt = proto.cache_salt();
  request.echo = proto.echo();
  if (proto.has_dropout()) request.dropout = proto.dropout();
  if (proto.has_repetition_penalty()) request.repetition_penalty = proto.repetition_penalty();
  if (proto.has_presence_penalty()) request.presence_penalty = proto.presence_penalty();
  if (proto.has_frequency_penalty()) request.frequency_penalty = proto.frequency_penalty();
  request.logit_bias = {proto.logit_bias().begin(), proto.logit_bias().end()};
  if (proto.has_logprobs()) request.logprobs = proto.logprobs();
  if (proto.has_prompt_logprobs()) request.prompt_logprobs = proto.prompt_logprobs();
  if (proto.on_disconnect() == v1::ON_DISCONNECT_DETACH) {
    request.detach_s = proto.has_detach_ttl_s() ? proto.detach_ttl_s() : kDefaultDetachSeconds;
  } else if (proto.has_detach_ttl_s()) {
    return InvalidArgument("detach_ttl_s is for on_disconnect ON_DISCONNECT_DETACH");
  }
  if (proto.has_resume()) {
    request.resume.emplace();
    for (const v1::HeldChoice& held : proto.resume().choices()) {
      Held& to = (*request.resume)[held.choice()];
      to.n_ids = held.ids();
      if (held.has_text_bytes()) to.text_bytes = held.text_bytes();
    }
  }
  request.digest = DigestOf(proto);
  return request;
}

std::string DigestOf(const v1::GenerateRequest& request) {
  v1::GenerateRequest what = request;
  what.clear_resume();
  what.clear_request_id();
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    what.SerializeToCodedStream(&coded);
  }
  return Sha256(bytes);
}

v1::GenerateRequest ToProto(const GenerateRequest& request) {
  v1::GenerateRequest proto;
  proto.set_model(request.model);
  proto.set_request_id(request.request_id);
  if (request.text.has_value()) {
    proto.set_text(*request.text);
  } else if (request.chat != nullptr) {
    *proto.mutable_chat() = ToProto(*request.chat);
  } else {
    Assign(request.ids, proto.mutable_ids()->mutable_ids());
  }
  if (request.n) proto.set_n(*request.n);
  if (request.max_tokens) proto.set_max_tokens(*request.max_tokens);
  if (request.min_tokens) proto.set_min_tokens(*request.min_tokens);
  if (request.temperature) proto.set_temperature(*request.temperature);
  if (request.top_k) proto.set_top_k(*request.top_k);
  if (request.top_p) proto.set_top_p(*request.top_p);
  if (request.min_p) proto.set_min_p(*request.min_p);
  if (request.seed) proto.set_seed(*request.seed);
  for (const std::string& stop : request.stop) proto.add_stop(stop);
  Assign(request.stop_token_ids, proto.mutable_stop_token_ids());
  if (request.ignore_eos) proto.set_ignore_eos(true);
  if (request.priority != 0) proto.set_priority(request.priority);
  if (request.timeout_s) proto.set_timeout_s(*request.timeout_s);
  if (!request.cache_salt.empty()) proto.set_cache_salt(request.cache_salt);
  if (request.echo) proto.set_echo(true);
  if (request.dropout) proto.set_dropout(*request.dropout);
  if (request.repetition_penalty) proto.set_repetition_penalty(*request.repetition_penalty);
  if (request.presence_penalty) proto.set_presence_penalty(*request.presence_penalty);
  if (request.frequency_penalty) proto.set_frequency_penalty(*request.frequency_penalty);
  proto.mutable_logit_bias()->insert(request.logit_bias.begin(), request.logit_bias.end());
  if (request.logprobs) proto.set_logprobs(*request.logprobs);
  if (request.prompt_logprobs) proto.set_prompt_logprobs(*request.prompt_logprobs);
  if (request.detach_s) {
    proto.set_on_disconnect(v1::ON_DISCONNECT_DETACH);
    proto.set_detach_ttl_s(*request.detach_s);
  }
  if (request.resume) {
    proto.mutable_resume();
    for (const auto& [choice, held] : *request.resume) {
      v1::HeldChoice& to = *proto.mutable_resume()->add_choices();
      to.set_choice(choice);
      to.set_ids(held.n_ids);
      if (held.text_bytes) to.set_text_bytes(*held.text_bytes);
    }
  }
  return proto;
}

// ---- Events.

namespace {

v1::FinishReason ReasonToProto(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return v1::FINISH_REASON_STOP;
    case FinishReason::kLength:
      return v1::FINISH_REASON_LENGTH;
    case FinishReason::kDeadline:
      return v1::FINISH_REASON_DEADLINE;
    default:
      return v1::FINISH_REASON_UNSPECIFIED;  // the others end with a status
  }
}

FinishReason ReasonFromProto(v1::FinishReason reason) {
  switch (reason) {
    case v1::FINISH_REASON_STOP:
      return FinishReason::kStop;
    case v1::FINISH_REASON_LENGTH:
      return FinishReason::kLength;
    case v1::FINISH_REASON_DEADLINE:
      return FinishReason::kDeadline;
    default:
      return FinishReason::kError;
  }
}

void Fill(Accepted& from, v1::Accepted* to) {
  to->set_id(std::move(from.id));
  to->set_seed(from.seed);
  Assign(from.prompt_ids, to->mutable_prompt_ids());
  to->set_prompt_text(std::move(from.prompt_text));
}

void Fill(Delta& from, v1::Delta* to) {
  to->set_choice(from.choice);
  to->set_offset(from.offset);
  Assign(from.ids, to->mutable_ids());
  to->set_text(std::move(from.text));
  Assign(from.logprobs, to->mutable_logprobs());
  Assign(from.prompt_logprobs, to->mutable_prompt_logprobs());
}

void Fill(Finished& from, v1::Finished* to) {
  to->set_choice(from.choice);
  to->set_reason(ReasonToProto(from.reason));
  if (from.stop_id) to->set_stop_id(*from.stop_id);
  if (from.stop_text) to->set_stop_text(*std::move(from.stop_text));
  to->mutable_usage()->set_prompt_tokens(from.usage.prompt_tokens);
  to->mutable_usage()->set_completion_tokens(from.usage.completion_tokens);
  to->mutable_usage()->set_cached_tokens(from.usage.cached_tokens);
  to->mutable_timings()->set_queue_s(from.timings.queue_s);
  to->mutable_timings()->set_ttft_s(from.timings.ttft_s);
  to->mutable_timings()->set_tbt_s_mean(from.timings.tbt_s_mean);
  to->mutable_timings()->set_total_s(from.timings.total_s);
}

Finished FinishedFromProto(v1::Finished&& proto) {
  Finished finished;
  finished.choice = proto.choice();
  finished.reason = ReasonFromProto(proto.reason());
  if (proto.has_stop_id()) finished.stop_id = proto.stop_id();
  if (proto.has_stop_text()) finished.stop_text = std::move(*proto.mutable_stop_text());
  finished.usage = {proto.usage().prompt_tokens(), proto.usage().completion_tokens(),
                    proto.usage().cached_tokens()};
  finished.timings = {proto.timings().queue_s(), proto.timings().ttft_s(),
                      proto.timings().tbt_s_mean(), proto.timings().total_s()};
  return finished;
}

}  // namespace

v1::GenerateEvent ToProto(Event&& event) {
  v1::GenerateEvent proto;
  if (auto* accepted = std::get_if<Accepted>(&event)) Fill(*accepted, proto.mutable_accepted());
  if (auto* delta = std::get_if<Delta>(&event)) Fill(*delta, proto.mutable_delta());
  if (auto* waiting = std::get_if<Waiting>(&event)) {
    proto.mutable_waiting()->set_reason(std::move(waiting->reason));
  }
  if (auto* finished = std::get_if<Finished>(&event)) Fill(*finished, proto.mutable_finished());
  return proto;
}

Event FromProto(v1::GenerateEvent&& proto) {
  switch (proto.event_case()) {
    case v1::GenerateEvent::kAccepted: {
      v1::Accepted& a = *proto.mutable_accepted();
      return Accepted{std::move(*a.mutable_id()), a.seed(), ToVector(a.prompt_ids()),
                      std::move(*a.mutable_prompt_text())};
    }
    case v1::GenerateEvent::kDelta: {
      v1::Delta& d = *proto.mutable_delta();
      return Delta{.choice = d.choice(),
                   .offset = d.offset(),
                   .ids = ToVector(d.ids()),
                   .text = std::move(*d.mutable_text()),
                   .logprobs = ToLogprobs(d.logprobs()),
                   .prompt_logprobs = ToLogprobs(d.prompt_logprobs())};
    }
    case v1::GenerateEvent::kWaiting:
      return Waiting{std::move(*proto.mutable_waiting()->mutable_reason())};
    case v1::GenerateEvent::kFinished:
      return FinishedFromProto(std::move(*proto.mutable_finished()));
    case v1::GenerateEvent::EVENT_NOT_SET:
      break;
  }
  return Internal("the server sent an event that this client does not know");
}

// ---- Stats.

namespace {

void Fill(const LinkedReplica& replica, v1::ReplicaStatus* to) {
  const ReplicaInfo& info = replica.info;
  to->set_link(replica.link);
  to->set_model(info.model);
  to->set_fingerprint(info.fingerprint);
  to->set_tp(info.tp);
  to->set_pp(info.pp);
  to->set_sequence_parallel(info.sequence_parallel);
  to->set_dtype(info.dtype);
  to->set_activations(info.activations);
  to->set_device(info.device);
  to->set_version(info.version);
  to->mutable_hosts()->Assign(info.hosts.begin(), info.hosts.end());
  to->mutable_rank_pids()->Assign(info.rank_pids.begin(), info.rank_pids.end());
  to->set_requests(static_cast<int64_t>(replica.running.size()));
  to->set_tokens_left(replica.tokens_left);
  const ReplicaStats& stats = replica.stats;
  to->set_steps(stats.steps);
  to->set_running(stats.running);
  to->set_waiting(stats.waiting);
  to->set_kv_blocks_total(stats.kv_blocks_total);
  to->set_kv_blocks_used(stats.kv_blocks_used);
  to->set_kv_blocks_cached(stats.kv_blocks_cached);
  to->set_kv_block_size(info.kv_block_size);
  to->set_prefix_queries(stats.prefix_queries);
  to->set_prefix_hits(stats.prefix_hits);
  to->set_preemptions(stats.preemptions);
  to->set_prompt_tokens(stats.prompt_tokens);
  to->set_generated_tokens(stats.generated_tokens);
  to->set_draining(replica.draining);
}

}  // namespace

v1::GetStatsResponse StatsToProto(const Controller& controller) {
  v1::GetStatsResponse proto;
  v1::RequestStats* requests = proto.mutable_requests();
  const RequestCounters& counters = controller.counters();
  requests->set_running(static_cast<int64_t>(controller.n_running()));
  requests->set_waiting(static_cast<int64_t>(controller.n_waiting()));
  requests->set_accepted(counters.accepted);
  requests->set_refused(counters.refused);
  requests->set_finished(counters.finished);
  requests->set_failed(counters.failed);
  requests->set_cancelled(counters.cancelled);
  requests->set_replayed(counters.replayed);
  requests->set_replicas_lost(counters.replicas_lost);
  requests->set_prompt_tokens(counters.prompt_tokens);
  requests->set_completion_tokens(counters.completion_tokens);
  for (const auto& [link, replica] : controller.replicas()) Fill(replica, proto.add_replicas());
  return proto;
}

}  // namespace trireme
