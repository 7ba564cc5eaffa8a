// Messages of clients and of replicas, any bytes in any order, into the controller core by the way
// that gRPC's shells go: parse, convert, admit, report. No client is told anything after its end,
// every one is told one, what they are told is UTF-8, and what goes into the log is a line.
// Input: records of a kind (one byte), a size (two, the low one first) and as many bytes.
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>

#include "base/check.h"
#include "google/protobuf/stubs/logging.h"
#include "server/controller.h"
#include "server/convert.h"
#include "text/utf8.h"

namespace trireme {
namespace {

constexpr int kLinks = 2;

// What a client is told of its own request, which may quote it.
void CheckText(const std::string& text) {
  CHECK(text::FindInvalidUtf8(text) == std::string::npos) << text;
}

// What goes into the log.
void CheckLine(const std::string& text) {
  CHECK(text.find('\n') == std::string::npos) << text;
  CheckText(text);
}

class Shell {
 public:
  Shell() : core_(ControllerOptions(), [this] { return ++random_; }) {}

  void Take(uint8_t kind, const std::string& bytes) {
    now_ += std::chrono::milliseconds(10);
    switch (kind % 9) {
      case 0:
        return Request(bytes);
      case 1:
      case 2:
        return FromReplica(kind % 9, bytes);
      case 3:
        core_.Cancel(now_, KeyIn(bytes), out_);
        return Perform();
      case 4:
        now_ += std::chrono::seconds(bytes.empty() ? 1 : static_cast<uint8_t>(bytes[0]));
        core_.Tick(now_, out_);
        return Perform();
      case 5:
        return Down(1 + bytes.size() % kLinks);
      case 6:
        core_.Gone(now_, KeyIn(bytes), out_);
        if (const auto client = clients_.find(KeyIn(bytes)); client != clients_.end()) {
          gone_.insert(client->first);
        }
        return Perform();
      case 7:
        core_.Drain(now_, links_[1 + bytes.size() % kLinks], out_).IgnoreError();
        return Perform();
      case 8:
        core_.Abort(now_, bytes, std::nullopt, out_);
        return Perform();
    }
  }

  void End() {
    core_.Shutdown(now_, /*stop_replicas=*/true, out_);
    Perform();
    for (int i = 1; i <= kLinks; ++i) Down(i);
    CHECK_EQ(core_.n_running() + core_.n_waiting(), 0u);
    for (const auto& [key, ended] : clients_) {
      CHECK(ended || gone_.contains(key)) << "client " << key << " has no end";
    }
  }

 private:
  uint64_t KeyIn(const std::string& bytes) const {
    return bytes.empty() ? last_key_ : static_cast<uint8_t>(bytes[0]);
  }

  void Request(const std::string& bytes) {
    v1::GenerateRequest proto;
    if (!proto.ParseFromString(bytes)) return;
    auto request = FromProto(proto);
    if (!request.ok()) return CheckText(Message(request.status()));
    const uint64_t key = ++last_key_;
    clients_[key] = false;
    auto model = models_.Resolve(request->model);
    if (model.ok() && (request->text.has_value() || request->chat != nullptr)) {
      auto ids = PromptIds(**model, *request);
      if (ids.ok()) {
        request->ids = *std::move(ids);
      } else {
        model = ids.status();
      }
    }
    if (model.ok()) {
      core_.Generate(now_, key, now_, *model, *std::move(request), out_);
    } else {
      core_.Refuse(key, model.status(), out_);
    }
    Perform();
  }

  static absl::StatusOr<std::vector<int32_t>> PromptIds(const ServedModel& model,
                                                        const GenerateRequest& request) {
    if (model.tokenizer == nullptr) return FailedPrecondition("no tokenizer");
    if (request.chat == nullptr) return model.tokenizer->Encode(*request.text, true);
    RETURN_IF_ERROR(model.chat.status());
    ASSIGN_OR_RETURN(const std::string text, model.chat->Render(*request.chat));
    return model.tokenizer->Encode(text, false);
  }

  // As ReplicaStream has it; its link's number is that of the place and of how often it came.
  void FromReplica(int place, const std::string& bytes) {
    replica::v1::FromReplica message;
    if (!message.ParseFromString(bytes)) return;
    uint64_t& link = links_[place];
    if (link == 0 && message.has_registration()) {
      ReplicaInfo info =
          trireme::FromProto(std::move(*message.mutable_registration()->mutable_info()));
      auto model = models_.Prepare(info);
      if (!model.ok()) return CheckLine(Message(model.status()));
      link = ++last_link_;
      core_.ReplicaUp(now_, link, message.registration().instance(), std::move(info), *model, out_);
    } else if (link != 0 && message.has_report()) {
      core_.Report(now_, link, trireme::FromProto(message.report()), out_);
    } else if (link != 0 && message.has_heartbeat()) {
      core_.Heartbeat(now_, link);
    }
    Perform();
  }

  void Down(int place) {
    if (const uint64_t link = std::exchange(links_[place], 0); link != 0) {
      core_.ReplicaDown(now_, link, "gone", out_);
    }
    Perform();
  }

  void Perform() {
    Actions actions;
    actions.swap(out_);
    for (Action& action : actions) {
      if (auto* tell = std::get_if<TellClient>(&action)) {
        bool& ended = clients_.at(tell->key);
        CHECK(!ended) << "client " << tell->key << " is told something after its end";
        ended = IsLast(tell->event);
        if (auto* status = std::get_if<absl::Status>(&tell->event)) CheckText(Message(*status));
        ToProto(std::move(tell->event)).SerializeAsString();
      } else if (auto* close = std::get_if<CloseLink>(&action)) {
        CheckLine(close->reason);
        for (auto& [place, link] : links_) link = link == close->link ? 0 : link;
      } else if (auto* registered = std::get_if<SendRegistered>(&action)) {
        models_.Publish(registered->model);
      } else if (auto* submit = std::get_if<SendSubmit>(&action)) {
        ToProto(submit->sequence).SerializeAsString();
      } else if (auto* line = std::get_if<WriteLog>(&action)) {
        CheckLine(line->line);
      }
    }
  }

  uint64_t random_ = 0;
  Controller core_;
  ModelRegistry models_;
  Time now_{std::chrono::hours(1)};
  Actions out_;
  uint64_t last_key_ = 0, last_link_ = 0;
  std::map<uint64_t, bool> clients_;  // by key: its end was told
  std::set<uint64_t> gone_;           // clients without a stream, which need no end
  std::map<int, uint64_t> links_;     // by place; 0: none
};

}  // namespace
}  // namespace trireme

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // Protobuf tells of what is no UTF-8.
  [[maybe_unused]] static const bool quiet = (google::protobuf::SetLogHandler(nullptr), true);
  trireme::Shell shell;
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  while (rest.size() > 3) {
    const auto byte = [&](size_t i) { return static_cast<uint8_t>(rest[i]); };
    const uint8_t kind = byte(0);
    const size_t n = byte(1) | byte(2) << 8;
    rest.remove_prefix(3);
    shell.Take(kind, std::string(rest.substr(0, n)));
    rest.remove_prefix(std::min(n, rest.size()));
  }
  shell.End();
  return 0;
}
