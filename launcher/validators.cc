#include "launcher/validators.h"

#include <algorithm>

#include "base/str.h"

namespace trireme {

CLI::Validator AtLeast(int64_t least) {
  return CLI::Validator(
      [least](std::string& text) {
        int64_t value = 0;
        if (ParseNumber(text, &value) && value >= least && value <= INT32_MAX) return std::string();
        return StrCat("expected a whole number, at least ", least, ", not ", text);
      },
      "");
}

CLI::Validator OneOf(std::vector<std::string> values) {
  return CLI::Validator(
      [values = std::move(values)](std::string& text) {
        if (std::find(values.begin(), values.end(), text) != values.end()) return std::string();
        return StrCat("expected ", Join(values, ", "), ", not ", text);
      },
      "");
}

CLI::Validator Size() {
  return CLI::Validator(
      [](std::string& text) {
        const std::string bad = StrCat("expected bytes such as 1048576, 512M or 4G, not ", text);
        int64_t value = 0;
        int shift = 0;
        const size_t unit = std::string("KMGT").find(text.empty() ? '?' : text.back());
        if (unit != std::string::npos) shift = 10 * (static_cast<int>(unit) + 1);
        const std::string digits = text.substr(0, text.size() - (shift > 0));
        if (!ParseNumber(digits, &value) || value < 0 || value > INT64_MAX >> shift) return bad;
        text = StrCat(value << shift);
        return std::string();
      },
      "");
}

}  // namespace trireme
