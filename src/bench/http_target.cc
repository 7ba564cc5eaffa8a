#include <deque>
#include <optional>
#include <thread>
#include <utility>

#include "base/file.h"
#include "bench/sse_reader.h"
#include "bench/target.h"
#include "boost/asio/connect.hpp"
#include "boost/asio/io_context.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "boost/beast/core.hpp"
#include "boost/beast/http.hpp"
#include "nlohmann/json.hpp"
#include "server/http_stream.h"

namespace trireme {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using boost::system::error_code;
using Json = nlohmann::json;
using Request = http::request<http::string_body>;
using Response = http::response<http::string_body>;

struct Call {
  Request request;
  Timeline* timeline;
  std::function<void()> done;
};

// A field of what may be anything; null if it is none.
const Json& Field(const Json& json, const char* name) {
  static const Json kNull;
  if (!json.is_object()) return kNull;
  auto it = json.find(name);
  return it == json.end() ? kNull : *it;
}

std::string Text(const Json& json) { return json.is_string() ? json.get<std::string>() : ""; }
int32_t Int(const Json& json) { return json.is_number_integer() ? json.get<int32_t>() : 0; }

Json Parse(std::string_view text) { return Json::parse(text, nullptr, /*allow_exceptions=*/false); }

// The message of an error's body.
std::string ErrorMessage(std::string_view body) {
  const std::string message = Text(Field(Field(Parse(body), "error"), "message"));
  return message.empty() ? std::string(body.substr(0, 200)) : message;
}

// A server that is dialled by thousands at once does not come to each of them before it gives up.
constexpr size_t kMostConnecting = 64;

class HttpTarget;

// One connection, which answers one call after another.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  explicit Connection(HttpTarget& target);

  void Start(std::shared_ptr<Call> call);

 private:
  void Connect();
  void Handshake();
  void SetUp();
  void Write();
  void ReadHeader();
  void ReadBody();
  void Consume();
  void OnData(std::string_view data);
  void Broken(error_code error);
  void Answered();
  void Fail(const std::string& kind, const std::string& message);
  void End();

  HttpTarget& target_;
  HttpStream stream_;
  beast::flat_buffer buffer_;
  std::optional<http::response_parser<http::string_body>> parser_;
  SseReader events_;
  std::shared_ptr<Call> call_;
  bool connected_ = false;
  bool reused_ = false;  // it has answered before, and may have been closed since
  bool done_ = false;    // [DONE] came
};

class HttpTarget : public Target {
 public:
  HttpTarget(TargetOptions options, std::string host, tcp::resolver::results_type endpoints,
             std::shared_ptr<SSL_CTX> tls)
      : options_(std::move(options)),
        server_name_(options_.tls.server_name.empty() ? std::move(host) : options_.tls.server_name),
        endpoints_(std::move(endpoints)),
        tls_(std::move(tls)) {
    thread_ = std::thread([this] { context_.run(); });
  }
  ~HttpTarget() override {
    context_.stop();
    thread_.join();
  }

  absl::Status ChooseModel();
  absl::StatusOr<std::vector<int32_t>> Tokenize(const std::string& text) override;
  void Send(LoadRequest load, Timeline* timeline, std::function<void()> done) override;

 private:
  friend class Connection;

  Request MakeRequest(http::verb verb, const std::string& path, const std::string& body) const;
  absl::StatusOr<Json> Ask(const Request& request) const;

  TargetOptions options_;
  const std::string server_name_;  // that its certificate is for
  const tcp::resolver::results_type endpoints_;
  const std::shared_ptr<SSL_CTX> tls_;  // null: plain bytes
  asio::io_context context_{1};
  asio::executor_work_guard<asio::io_context::executor_type> guard_{context_.get_executor()};
  // Of the thread:
  std::vector<std::shared_ptr<Connection>> idle_;
  std::deque<std::shared_ptr<Connection>> waiting_;  // to connect
  size_t n_connecting_ = 0;
  std::thread thread_;
};

Connection::Connection(HttpTarget& target)
    : target_(target),
      stream_(tcp::socket(target.context_), target.tls_.get(), HttpStream::Side::kClient) {}

void Connection::Start(std::shared_ptr<Call> call) {
  call_ = std::move(call);
  parser_.emplace();
  parser_->eager(true);
  parser_->body_limit(boost::none);
  events_ = {};
  done_ = false;
  connected_ ? Write() : Connect();
}

void Connection::Connect() {
  if (target_.n_connecting_ == kMostConnecting)
    return target_.waiting_.push_back(shared_from_this());
  ++target_.n_connecting_;
  stream_.tcp().async_connect(target_.endpoints_,
                              [self = shared_from_this()](error_code error, const tcp::endpoint&) {
                                const bool tls = !error && self->stream_.tls() != nullptr;
                                if (!tls) self->SetUp();
                                if (error) return self->Broken(error);
                                self->connected_ = true;
                                self->stream_.tcp().socket().set_option(tcp::no_delay(true), error);
                                tls ? self->Handshake() : self->Write();
                              });
}

// However that went.
void Connection::SetUp() {
  --target_.n_connecting_;
  if (target_.waiting_.empty()) return;
  const std::shared_ptr<Connection> next = std::move(target_.waiting_.front());
  target_.waiting_.pop_front();
  next->Connect();
}

void Connection::Handshake() {
  stream_.tls()->ExpectServer(target_.server_name_);
  stream_.AsyncHandshake([self = shared_from_this()](error_code error, size_t) {
    self->SetUp();
    if (!error) return self->Write();
    self->connected_ = false;
    self->Fail("TLS", self->stream_.tls()->WhyNot(error));
  });
}

void Connection::Write() {
  http::async_write(stream_, call_->request, [self = shared_from_this()](error_code error, size_t) {
    error ? self->Broken(error) : self->ReadHeader();
  });
}

void Connection::ReadHeader() {
  http::async_read_header(stream_, buffer_, *parser_,
                          [self = shared_from_this()](error_code error, size_t) {
                            if (error) return self->Broken(error);
                            self->reused_ = false;
                            self->ReadBody();
                          });
}

void Connection::ReadBody() {
  Consume();
  if (parser_->is_done()) return Answered();
  http::async_read_some(stream_, buffer_, *parser_,
                        [self = shared_from_this()](error_code error, size_t) {
                          error ? self->Broken(error) : self->ReadBody();
                        });
}

// What has come of a stream; the body of any other answer gathers.
void Connection::Consume() {
  if (parser_->get().result() != http::status::ok) return;
  std::string& body = parser_->get().body();
  events_.Add(body, [this](std::string_view data) { OnData(data); });
  body.clear();
}

void Connection::OnData(std::string_view data) {
  const auto now = std::chrono::steady_clock::now();
  if (data == "[DONE]") {
    done_ = true;
    return;
  }
  const Json json = Parse(data);
  Timeline& timeline = *call_->timeline;
  if (!json.is_object()) {
    timeline.error_kind = "not JSON";
    timeline.error = data.substr(0, 200);
    return;
  }
  if (json.contains("error")) {
    timeline.error_kind = "error in the stream";
    timeline.error = ErrorMessage(data);
    return;
  }
  const Json& choices = Field(json, "choices");
  if (choices.is_array() && !choices.empty() && !Text(Field(choices[0], "text")).empty()) {
    timeline.Tokens(now, 1);
  }
  if (const Json& usage = Field(json, "usage"); usage.is_object()) {
    timeline.prompt_tokens = Int(Field(usage, "prompt_tokens"));
    timeline.output_tokens = Int(Field(usage, "completion_tokens"));
  }
}

void Connection::Broken(error_code error) {
  connected_ = false;
  if (reused_) {  // closed while it was idle: nobody has read the request
    return std::make_shared<Connection>(target_)->Start(std::exchange(call_, nullptr));
  }
  Fail("connection", error.message());
}

void Connection::Answered() {
  const Response& response = parser_->get();
  if (response.result() != http::status::ok) {
    return Fail(StrCat("HTTP ", response.result_int()), ErrorMessage(response.body()));
  }
  if (!done_) return Fail("no stream", "the answer has no [DONE]");
  End();
}

void Connection::Fail(const std::string& kind, const std::string& message) {
  if (call_->timeline->ok()) {
    call_->timeline->error_kind = kind;
    call_->timeline->error = message;
  }
  End();
}

void Connection::End() {
  call_->timeline->ended = std::chrono::steady_clock::now();
  if (connected_ && parser_->is_done() && parser_->keep_alive()) {
    reused_ = true;
    target_.idle_.push_back(shared_from_this());
  }
  std::exchange(call_, nullptr)->done();
}

Request HttpTarget::MakeRequest(http::verb verb, const std::string& path,
                                const std::string& body) const {
  Request request(verb, path, 11);
  request.set(http::field::host, options_.address);
  request.set(http::field::content_type, "application/json");
  if (!options_.api_key.empty()) {
    request.set(http::field::authorization, "Bearer " + options_.api_key);
  }
  request.body() = body;
  request.prepare_payload();
  return request;
}

absl::StatusOr<Json> HttpTarget::Ask(const Request& request) const {
  asio::io_context context;
  HttpStream stream(tcp::socket(context), tls_.get(), HttpStream::Side::kClient);
  beast::flat_buffer buffer;
  Response response;
  error_code error;
  const auto await = [&](auto&& start) {
    if (error) return;
    start([&error](error_code e, auto&&...) { error = e; });
    context.restart();
    context.run();
  };
  await([&](auto done) { stream.tcp().async_connect(endpoints_, done); });
  if (!error && tls_ != nullptr) {
    stream.tls()->ExpectServer(server_name_);
    await([&](auto done) { stream.AsyncHandshake(done); });
    if (error) return Unavailable(options_.address, ": TLS fails: ", stream.tls()->WhyNot(error));
  }
  await([&](auto done) { http::async_write(stream, request, done); });
  await([&](auto done) { http::async_read(stream, buffer, response, done); });
  if (error == http::error::end_of_stream && tls_ == nullptr) {
    return Unavailable(options_.address, ": it hangs up; does it want TLS (--tls or --tls-ca)?");
  }
  if (error) return Unavailable(options_.address, ": ", error.message());
  const std::string target(request.target());
  if (response.result() != http::status::ok) {
    return FailedPrecondition(options_.address, target, ": HTTP ", response.result_int(), ": ",
                              ErrorMessage(response.body()));
  }
  Json json = Parse(response.body());
  if (!json.is_object()) {
    return FailedPrecondition(options_.address, target, ": expected a JSON object");
  }
  return json;
}

absl::Status HttpTarget::ChooseModel() {
  if (!options_.model.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const Json models, Ask(MakeRequest(http::verb::get, "/v1/models", "")));
  const Json& data = Field(models, "data");
  if (data.size() != 1) {
    return InvalidArgument(options_.address, " serves ", data.size(),
                           " models: name one by --served-model-name");
  }
  options_.model = Text(Field(data[0], "id"));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int32_t>> HttpTarget::Tokenize(const std::string& text) {
  const Json body = {{"model", options_.model}, {"prompt", text}, {"add_special_tokens", false}};
  ASSIGN_OR_RETURN(const Json answer, Ask(MakeRequest(http::verb::post, "/tokenize", body.dump())));
  std::vector<int32_t> ids;
  for (const Json& id : Field(answer, "tokens")) ids.push_back(Int(id));
  return ids;
}

void HttpTarget::Send(LoadRequest load, Timeline* timeline, std::function<void()> done) {
  Json body = {{"model", options_.model},
               {"max_tokens", load.output_tokens},
               {"ignore_eos", true},
               {"temperature", options_.temperature},
               {"seed", static_cast<int64_t>(load.seed >> 1)},
               {"stream", true},
               {"stream_options", {{"include_usage", true}}}};
  load.text.has_value() ? body["prompt"] = *load.text : body["prompt"] = load.ids;
  auto call = std::make_shared<Call>(MakeRequest(http::verb::post, "/v1/completions", body.dump()),
                                     timeline, std::move(done));
  asio::post(context_, [this, call = std::move(call)]() mutable {
    std::shared_ptr<Connection> connection;
    if (idle_.empty()) {
      connection = std::make_shared<Connection>(*this);
    } else {
      connection = std::move(idle_.back());
      idle_.pop_back();
    }
    connection->Start(std::move(call));
  });
}

}  // namespace

absl::StatusOr<std::unique_ptr<Target>> MakeHttpTarget(TargetOptions options) {
  RaiseOpenFileLimit();
  std::shared_ptr<SSL_CTX> tls;
  if (options.tls.used()) {
    ASSIGN_OR_RETURN(const TlsPem pem, ReadTls(options.tls.files));
    tls = NewClientContext(pem);
  }
  asio::io_context context;
  tcp::resolver resolver(context);
  const size_t colon = options.address.rfind(':');
  std::string host = options.address.substr(0, colon);
  if (host.starts_with('[')) host = host.substr(1, host.size() - 2);
  error_code error;
  auto endpoints = resolver.resolve(host, options.address.substr(colon + 1), error);
  if (error) return Unavailable(options.address, ": ", error.message());
  auto target = std::make_unique<HttpTarget>(std::move(options), std::move(host),
                                             std::move(endpoints), std::move(tls));
  RETURN_IF_ERROR(target->ChooseModel());
  return target;
}

}  // namespace trireme
