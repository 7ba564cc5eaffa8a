// The controller over HTTP: the OpenAI API, tokenizing, health, metrics.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/status.h"
#include "server/controller_loop.h"
#include "server/http_server.h"
#include "server/keys.h"
#include "server/metrics.h"
#include "server/openai.h"

namespace trireme {

class HttpService {
 public:
  struct Options {
    HttpServer::Options server;
    std::string version;  // of the program
  };

  // The loop is to be stopped before this is destroyed: it may hold its answers.
  static absl::StatusOr<std::unique_ptr<HttpService>> Start(ControllerLoop& loop, Metrics& metrics,
                                                            const Doorkeeper& door,
                                                            Options options);

  const std::string& address() const { return server_->address(); }

  // Returns once no answer is under way, or after `most`.
  void Finish(std::chrono::milliseconds most) { server_->Finish(most); }

  // Closes every connection.
  void Stop() { server_->Stop(); }

 private:
  using Reply = std::shared_ptr<HttpReply>;

  HttpService(ControllerLoop& loop, Metrics& metrics, const Doorkeeper& door, Options options);
  void Handle(HttpRequest request, Reply reply);
  // Not on the server's threads where the body is large.
  using Answer = std::function<void(const HttpRequest& request, const Reply& reply)>;
  void Aside(HttpRequest request, const Reply& reply, Answer answer);
  void Complete(ParseCall* parse, HttpRequest request, const Caller& caller, const Reply& reply);
  void StartCompletion(ParseCall* parse, const HttpRequest& request, const Caller& caller,
                       const Reply& reply);
  void Models(const Reply& reply, const std::string& name);
  void Tokenize(const HttpRequest& request, const Reply& reply);
  void Detokenize(const HttpRequest& request, const Reply& reply);

  ControllerLoop& loop_;
  Metrics& metrics_;
  const Doorkeeper& door_;
  const Options options_;
  std::unique_ptr<HttpServer> server_;
};

}  // namespace trireme
