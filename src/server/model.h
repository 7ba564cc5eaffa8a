// What requests need to know of a model, and the models that this controller knows.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "base/status.h"
#include "runtime/request.h"
#include "server/chat.h"
#include "text/tokenizer.h"

namespace trireme {

struct ServedModel {
  std::string name;
  std::shared_ptr<const Tokenizer> tokenizer;  // null: ids only
  absl::StatusOr<ChatTemplates> chat = absl::FailedPreconditionError("no templates");  // or why not
  int32_t vocab_size = 0;
  int32_t context_length = 0;
  std::vector<int32_t> eos_ids;
  std::string dtype;
  std::string activations;
  std::string tokenizer_json;  // what `tokenizer` was made of
  std::string tokenizer_config_json;
  std::string chat_template;
};

using ModelPtr = std::shared_ptr<const ServedModel>;

// Empty if requests made for one can run on the other: the same ids mean the same. Else what
// differs.
std::string Difference(const ServedModel& a, const ServedModel& b);

// The models that replicas have registered; each stays known when its replicas are gone, so that
// requests can wait for the next one. Thread-safe.
class ModelRegistry {
 public:
  // The model of a replica: the known one if nothing differs. INVALID_ARGUMENT naming what of
  // `info` is missing or impossible, or what is wrong with its tokenizer. Parsing one may take a
  // second.
  absl::StatusOr<ModelPtr> Prepare(const ReplicaInfo& info) const;

  // Makes it known, in place of one of the same name.
  void Publish(ModelPtr model);

  // The model of that name; of an empty name, the only one. UNAVAILABLE before any is known,
  // NOT_FOUND, or INVALID_ARGUMENT for an empty name among several.
  absl::StatusOr<ModelPtr> Resolve(const std::string& name) const;

  std::vector<ModelPtr> All() const;  // by name

 private:
  mutable std::mutex mutex_;
  std::map<std::string, ModelPtr> models_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace trireme
