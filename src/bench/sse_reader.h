// The data of server-sent events (WHATWG HTML 9.2), out of bytes that come in any pieces. An event
// of several data lines, which OpenAI's API does not send, counts as several events.
#pragma once

#include <string>
#include <string_view>

namespace trireme {

class SseReader {
 public:
  // Calls `on_data` with the data of each line that `bytes` complete.
  template <typename F>
  void Add(std::string_view bytes, F&& on_data) {
    pending_ += bytes;
    size_t begin = 0;
    for (size_t end; (end = pending_.find('\n', begin)) != std::string::npos; begin = end + 1) {
      std::string_view line = std::string_view(pending_).substr(begin, end - begin);
      if (line.ends_with('\r')) line.remove_suffix(1);
      if (!line.starts_with("data:")) continue;
      line.remove_prefix(5);
      if (line.starts_with(' ')) line.remove_prefix(1);
      on_data(line);
    }
    pending_.erase(0, begin);
  }

 private:
  std::string pending_;
};

}  // namespace trireme
