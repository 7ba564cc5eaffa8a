#include "server/grpc_listener.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <thread>
#include <utility>

#include "base/log.h"
#include "boost/asio/io_context.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "boost/asio/steady_timer.hpp"
#include "server/episodes.h"
#include "server/listen_address.h"

namespace trireme {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

// Files that connections leave to the rest of the process: its ledger, its replicas' pipes.
int Reserve(rlim_t limit) { return static_cast<int>(std::min<rlim_t>(limit / 8, 64)); }

// The lowest number that is free is what a file gets: so it tells how many there are.
bool LeavesTooFew(int fd) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return false;
  return static_cast<rlim_t>(fd) + static_cast<rlim_t>(Reserve(limit.rlim_cur)) >= limit.rlim_cur;
}

}  // namespace

struct GrpcListener::Impl {
  // One of the host's addresses.
  struct Socket {
    explicit Socket(asio::io_context& context) : acceptor(context), pause(context) {}
    tcp::acceptor acceptor;
    asio::steady_timer pause;
  };

  absl::Status Listen(const std::string& at);
  void Accept(Socket& socket);
  void Take(tcp::socket connection, int listener);

  asio::io_context context;
  std::deque<Socket> sockets;
  std::string address;
  std::unique_ptr<Acceptor> grpc;
  Episodes failing;
  std::thread thread;
};

absl::Status GrpcListener::Impl::Listen(const std::string& at) {
  RETURN_IF_ERROR(CheckAddress(at, /*least_port=*/0));
  const size_t colon = at.rfind(':');
  std::string host = at.substr(0, colon);
  if (host.starts_with('[')) host = host.substr(1, host.size() - 2);
  error_code error;
  tcp::resolver resolver(context);
  const auto found = resolver.resolve(host, at.substr(colon + 1), tcp::resolver::passive, error);
  uint16_t port = 0;  // the same at all of them
  for (const auto& entry : found) {
    tcp::endpoint endpoint = entry.endpoint();
    if (port != 0) endpoint.port(port);
    Socket& socket = sockets.emplace_back(context);
    socket.acceptor.open(endpoint.protocol(), error);
    if (!error) socket.acceptor.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) socket.acceptor.bind(endpoint, error);
    if (!error) socket.acceptor.listen(tcp::acceptor::max_listen_connections, error);
    if (!error) port = socket.acceptor.local_endpoint(error).port();
    if (error) sockets.pop_back();
  }
  if (sockets.empty()) return Unavailable("cannot listen on ", at, ": ", error.message());
  address = StrCat(at.substr(0, colon), ":", port);
  return absl::OkStatus();
}

void GrpcListener::Impl::Accept(Socket& socket) {
  socket.acceptor.async_accept([this, &socket](error_code error, tcp::socket connection) {
    if (error == asio::error::operation_aborted) return;
    if (!error) {
      Take(std::move(connection), socket.acceptor.native_handle());
      return Accept(socket);
    }
    if (failing.Begins()) {
      spdlog::warn("{} takes no gRPC connections for now: {}", address, error.message());
    }
    socket.pause.expires_after(std::chrono::milliseconds(100));
    socket.pause.async_wait([this, &socket](error_code stopped) {
      if (!stopped) Accept(socket);
    });
  });
}

void GrpcListener::Impl::Take(tcp::socket connection, int listener) {
  if (LeavesTooFew(connection.native_handle())) {
    if (failing.Begins()) {
      spdlog::warn(
          "{}: too many files are open, gRPC connections are closed at once; raise the "
          "limit (ulimit -n)",
          address);
    }
    return;
  }
  error_code error;
  connection.set_option(tcp::no_delay(true), error);
  connection.non_blocking(true, error);
  Acceptor::NewConnectionParameters parameters;
  parameters.listener_fd = listener;
  parameters.fd = connection.release(error);
  if (!error) grpc->HandleNewConnection(&parameters);
}

GrpcListener::GrpcListener(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
GrpcListener::~GrpcListener() { Stop(); }
const std::string& GrpcListener::address() const { return impl_->address; }

absl::StatusOr<std::unique_ptr<GrpcListener>> GrpcListener::Open(const std::string& address) {
  auto impl = std::make_unique<Impl>();
  RETURN_IF_ERROR(impl->Listen(address));
  return std::unique_ptr<GrpcListener>(new GrpcListener(std::move(impl)));
}

void GrpcListener::Start(std::unique_ptr<Acceptor> acceptor) {
  impl_->grpc = std::move(acceptor);
  for (Impl::Socket& socket : impl_->sockets) impl_->Accept(socket);
  impl_->thread = std::thread([impl = impl_.get()] { impl->context.run(); });
}

void GrpcListener::Stop() {
  impl_->context.stop();
  if (impl_->thread.joinable()) impl_->thread.join();
  impl_->sockets.clear();
}

}  // namespace trireme
