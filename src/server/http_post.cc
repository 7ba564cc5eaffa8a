#include "server/http_post.h"

#include <functional>

#include "boost/asio/io_context.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "boost/beast/core.hpp"
#include "boost/beast/http.hpp"

namespace trireme {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using boost::system::error_code;

// Runs one operation to its end, which the stream's timeout bounds.
error_code Await(asio::io_context& context,
                 const std::function<void(std::function<void(error_code)>)>& start) {
  error_code result;
  start([&result](error_code error) { result = error; });
  context.restart();
  context.run();
  return result;
}

}  // namespace

absl::StatusOr<HttpUrl> ParseHttpUrl(const std::string& url) {
  constexpr std::string_view kScheme = "http://";
  const auto wrong = [&] {
    return InvalidArgument("expected http://HOST:PORT or http://HOST:PORT/PATH, not ", url);
  };
  if (!url.starts_with(kScheme)) return wrong();
  const std::string rest = url.substr(kScheme.size());
  const std::string authority = rest.substr(0, rest.find('/'));
  HttpUrl parsed{.path = rest.substr(authority.size())};
  const size_t bracket = authority.rfind(']');
  const size_t colon = authority.find(':', bracket == std::string::npos ? 0 : bracket);
  parsed.host = authority.substr(0, colon);
  parsed.port = colon == std::string::npos ? "80" : authority.substr(colon + 1);
  int port = 0;
  if (parsed.host.empty() || !ParseNumber(parsed.port, &port) || port < 1 || port > 65535) {
    return wrong();
  }
  for (const unsigned char c : url) {
    if (c <= ' ' || c == 0x7f) return wrong();
  }
  if (parsed.path.empty()) parsed.path = "/";
  return parsed;
}

absl::StatusOr<int> HttpPostJson(const HttpUrl& url, const std::string& json,
                                 std::chrono::milliseconds timeout) {
  const auto failed = [&](error_code error) {
    return Unavailable(url.host, ":", url.port, ": ", error.message());
  };
  asio::io_context context;
  const bool bracketed = url.host.starts_with('[');
  const std::string host = bracketed ? url.host.substr(1, url.host.size() - 2) : url.host;
  error_code error;
  const auto found = tcp::resolver(context).resolve(host, url.port, error);
  if (error) return failed(error);

  beast::tcp_stream stream(context);
  stream.expires_after(timeout);
  error = Await(context, [&](auto done) {
    stream.async_connect(found, [done](error_code e, const auto&) { done(e); });
  });
  if (error) return failed(error);

  http::request<http::string_body> request(http::verb::post, url.path, 11, json);
  request.set(http::field::host, url.host + ":" + url.port);
  request.set(http::field::content_type, "application/json");
  request.keep_alive(false);
  request.prepare_payload();
  stream.expires_after(timeout);
  error = Await(context, [&](auto done) {
    http::async_write(stream, request, [done](error_code e, size_t) { done(e); });
  });
  if (error) return failed(error);

  beast::flat_buffer buffer;
  http::response<http::string_body> response;
  stream.expires_after(timeout);
  error = Await(context, [&](auto done) {
    http::async_read(stream, buffer, response, [done](error_code e, size_t) { done(e); });
  });
  if (error) return failed(error);
  return static_cast<int>(response.result_int());
}

}  // namespace trireme
