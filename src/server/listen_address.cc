#include "server/listen_address.h"

namespace trireme {

absl::Status CheckAddress(const std::string& address, int least_port) {
  const size_t colon = address.rfind(':');
  const std::string host = address.substr(0, colon);
  const bool bracketed = host.starts_with('[') && host.ends_with(']');
  int port = -1;
  if (colon != std::string::npos && (bracketed || host.find(':') == std::string::npos) &&
      ParseNumber(std::string_view(address).substr(colon + 1), &port) && port >= least_port &&
      port <= 65535) {
    return absl::OkStatus();
  }
  return InvalidArgument("expected HOST:PORT with a port from ", least_port, " to 65535, not ",
                         address.empty() ? "an empty text" : address);
}

bool IsLoopback(const std::string& address) {
  const std::string host = address.substr(0, address.rfind(':'));
  return host == "localhost" || host == "[::1]" || host.starts_with("127.");
}

}  // namespace trireme
