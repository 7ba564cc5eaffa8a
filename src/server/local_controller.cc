#include "server/local_controller.h"

#include <future>
#include <mutex>
#include <utility>

#include "base/check.h"

namespace trireme {

// Calls the replica, and posts its reports to the loop for as long as there is one.
class LocalController::Link : public ReplicaLink, public std::enable_shared_from_this<Link> {
 public:
  explicit Link(Replica& replica) : replica_(replica) {}

  void Attach(ControllerLoop* loop) {
    std::lock_guard lock(mutex_);
    loop_ = loop;
  }

  // Drops what runs, once there is no loop.
  void Disconnect() { engine_.reset(); }

  absl::Status Wait() { return answer_.get_future().get(); }

  void Registered(uint64_t link, const ControllerOptions&) override {
    link_ = link;
    engine_ = replica_.Connect([self = shared_from_this(), link](StepReport&& report) {
      std::lock_guard lock(self->mutex_);
      if (self->loop_ != nullptr) self->loop_->Report(link, std::move(report), {});
    });
    answer_.set_value(absl::OkStatus());
  }
  void Submit(SequenceRequest sequence) override { engine_->Submit(std::move(sequence)); }
  void Cancel(uint64_t sequence_id) override { engine_->Cancel(sequence_id); }
  void Heartbeat() override {  // a call that returns is the answer
    std::lock_guard lock(mutex_);
    if (loop_ != nullptr) loop_->Heartbeat(link_);
  }
  void Shutdown() override {}
  void Close(const std::string& reason, bool rejected) override {
    CHECK(rejected && link_ == 0) << "the replica of this process: " << reason;
    answer_.set_value(InvalidArgument(reason));
  }

 private:
  Replica& replica_;
  std::unique_ptr<Replica::Link> engine_;  // the loop's thread, while there is one
  std::promise<absl::Status> answer_;
  uint64_t link_ = 0;
  std::mutex mutex_;
  ControllerLoop* loop_ ABSL_GUARDED_BY(mutex_) = nullptr;  // null once it is going
};

LocalController::LocalController(Replica& replica, ControllerLoop::Options options)
    : link_(std::make_shared<Link>(replica)),
      loop_(std::make_unique<ControllerLoop>(std::move(options))) {
  link_->Attach(loop_.get());
}

absl::StatusOr<std::unique_ptr<LocalController>> LocalController::Start(
    Replica& replica, ControllerLoop::Options options) {
  std::unique_ptr<LocalController> controller(new LocalController(replica, std::move(options)));
  controller->loop_->AddReplica(/*instance=*/1, replica.info(), controller->link_);
  RETURN_IF_ERROR(controller->link_->Wait());
  return controller;
}

LocalController::~LocalController() {
  link_->Attach(nullptr);
  loop_->Stop();
  link_->Disconnect();
}

}  // namespace trireme
