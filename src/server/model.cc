#include "server/model.h"

#include <algorithm>
#include <mutex>
#include <utility>

namespace trireme {
namespace {

bool HasControls(const std::string& text) {
  return std::ranges::any_of(text, [](unsigned char c) { return c < ' ' || c == 0x7f; });
}

absl::Status Check(const ReplicaInfo& info) {
  if (info.model.empty()) return InvalidArgument("the replica names no model");
  if (info.fingerprint.empty()) return InvalidArgument("the replica has no fingerprint");
  std::vector<std::string> names = info.hosts;
  names.insert(names.end(), {info.model, info.fingerprint, info.dtype, info.activations,
                             info.device, info.version});
  if (std::ranges::any_of(names, HasControls)) {
    return InvalidArgument("the replica names itself with control characters");
  }
  if (info.vocab_size < 1) return InvalidArgument("vocab_size is ", info.vocab_size);
  if (info.context_length < 2) return InvalidArgument("context_length is ", info.context_length);
  if (info.max_rows < 1) return InvalidArgument("max_rows is ", info.max_rows);
  for (int32_t id : info.eos_ids) {
    if (id < 0 || id >= info.vocab_size) {
      return InvalidArgument("eos id ", id, " is outside the vocabulary of ", info.vocab_size);
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::string Difference(const ServedModel& a, const ServedModel& b) {
  if (a.vocab_size != b.vocab_size) return "vocabulary size";
  if (a.context_length != b.context_length) return "context length";
  if (a.eos_ids != b.eos_ids) return "end-of-text ids";
  if (a.tokenizer_json != b.tokenizer_json) return "tokenizer.json";
  if (a.tokenizer_config_json != b.tokenizer_config_json) return "tokenizer_config.json";
  if (a.chat_template != b.chat_template) return "chat_template.jinja";
  return "";
}

absl::StatusOr<ModelPtr> ModelRegistry::Prepare(const ReplicaInfo& info) const {
  RETURN_IF_ERROR(Check(info));
  auto model = std::make_shared<ServedModel>();
  model->name = info.model;
  model->vocab_size = info.vocab_size;
  model->context_length = info.context_length;
  model->eos_ids = info.eos_ids;
  model->dtype = info.dtype;
  model->activations = info.activations;
  model->tokenizer_json = info.tokenizer_json;
  model->tokenizer_config_json = info.tokenizer_config_json;
  model->chat_template = info.chat_template;
  if (auto known = Resolve(info.model); known.ok() && Difference(**known, *model).empty()) {
    return *known;
  }
  if (!info.tokenizer_json.empty()) {
    auto tokenizer = Tokenizer::FromJson(info.tokenizer_json);
    if (!tokenizer.ok()) {
      return InvalidArgument("tokenizer.json of ", info.model, ": ", Message(tokenizer.status()));
    }
    model->tokenizer = *std::move(tokenizer);
  }
  model->chat = ChatTemplates::Make(info.tokenizer_config_json, info.chat_template);
  return model;
}

void ModelRegistry::Publish(ModelPtr model) {
  std::lock_guard lock(mutex_);
  models_[model->name] = std::move(model);
}

std::vector<ModelPtr> ModelRegistry::All() const {
  std::lock_guard lock(mutex_);
  std::vector<ModelPtr> models;
  for (const auto& [name, model] : models_) models.push_back(model);
  return models;
}

absl::StatusOr<ModelPtr> ModelRegistry::Resolve(const std::string& name) const {
  std::lock_guard lock(mutex_);
  if (models_.empty()) return Unavailable("no replica has registered yet: retry later");
  if (name.empty()) {
    if (models_.size() == 1) return models_.begin()->second;
    std::vector<std::string> names;
    for (const auto& [each, model] : models_) names.push_back(each);
    return InvalidArgument("model is empty; expected one of ", Join(names, ", "));
  }
  auto it = models_.find(name);
  if (it == models_.end()) return NotFound("no model is named \"", name, "\"");
  return it->second;
}

}  // namespace trireme
