#include "launcher/signals.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>

#include "base/check.h"

namespace trireme {

SignalWatch::SignalWatch(std::function<void(int signal)> on_signal)
    : on_signal_(std::move(on_signal)), stop_fd_(eventfd(0, EFD_CLOEXEC)) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  CHECK_EQ(pthread_sigmask(SIG_BLOCK, &signals, nullptr), 0);
  signal_fd_ = signalfd(-1, &signals, SFD_CLOEXEC);
  CHECK_GE(signal_fd_, 0);
  thread_ = std::thread([this] { Watch(); });
}

SignalWatch::~SignalWatch() {
  const uint64_t one = 1;
  (void)!write(stop_fd_, &one, sizeof one);
  thread_.join();
  close(stop_fd_);
  close(signal_fd_);
}

void SignalWatch::Watch() {
  bool again = false;
  for (;;) {
    pollfd fds[] = {{signal_fd_, POLLIN, 0}, {stop_fd_, POLLIN, 0}};
    if (poll(fds, 2, -1) < 0) continue;
    if (fds[1].revents) return;
    signalfd_siginfo info;
    if (read(signal_fd_, &info, sizeof info) != sizeof info) continue;
    const int signal = static_cast<int>(info.ssi_signo);
    if (again) _exit(128 + signal);
    again = true;
    on_signal_(signal);
  }
}

Interruption::Interruption()
    : watch_([this](int signal) {
        absl::MutexLock lock(&mutex_);
        if (!action_) _exit(128 + signal);
        action_();
      }) {}

void Interruption::Becomes(std::function<void()> action) {
  absl::MutexLock lock(&mutex_);
  action_ = std::move(action);
}

}  // namespace trireme
