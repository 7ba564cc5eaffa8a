#include "launcher/validators.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "server/http_post.h"
#include "server/listen_address.h"

namespace trireme {
namespace {

CLI::Validator Address(int least_port) {
  return CLI::Validator(
      [least_port](std::string& text) {
        return std::string(CheckAddress(text, least_port).message());
      },
      "");
}

}  // namespace

std::string ButNot(const std::string& text) {
  return ", not " + (text.empty() ? "an empty text" : text);
}

CLI::Validator Number() {
  return CLI::Validator(
      [](std::string& text) {
        float value = 0;
        return ParseNumber(text, &value) ? "" : "expected a number" + ButNot(text);
      },
      "");
}

CLI::Validator Rate() {
  return CLI::Validator(
      [](std::string& text) {
        double value = 0;
        if (ParseNumber(text, &value) && value > 0 && value <= 1e6) return std::string();
        return "expected a number above 0, at most 1e6" + ButNot(text);
      },
      "");
}

CLI::Validator Biases() {
  return ListOf(CLI::Validator(
      [](std::string& text) {
        const std::vector<std::string> parts = SplitString(text, '=');
        int32_t id = 0;
        float bias = 0;
        if (parts.size() == 2 && ParseNumber(parts[0], &id) && ParseNumber(parts[1], &bias)) {
          return std::string();
        }
        return "expected ID=BIAS, such as 5=-100" + ButNot(text);
      },
      ""));
}

CLI::Validator Seconds(bool or_none) {
  return CLI::Validator(
      [or_none](std::string& text) {
        constexpr double kYear = 366 * 86400.0;  // more would overflow a deadline one day
        constexpr std::pair<std::string_view, double> kUnits[] = {
            {"ms", 1e-3}, {"s", 1}, {"m", 60}, {"h", 3600}};
        std::string_view number = text;
        double unit = 1, value = 0;
        for (const auto& [name, seconds] : kUnits) {
          if (!number.ends_with(name)) continue;
          number.remove_suffix(name.size());
          unit = seconds;
          break;
        }
        if (!ParseNumber(number, &value) ||
            !((value > 0 && value * unit <= kYear) || (or_none && value == 0))) {
          return StrCat("expected a time above 0 and below a year, such as 30s, 500ms or 2m",
                        ButNot(text));
        }
        text = StrCat(value * unit);
        return std::string();
      },
      "");
}

CLI::Validator OneOf(std::vector<std::string> values) {
  return CLI::Validator(
      [values = std::move(values)](std::string& text) {
        if (std::find(values.begin(), values.end(), text) != values.end()) return std::string();
        return StrCat("expected ", Join(values, ", "), ButNot(text));
      },
      "");
}

CLI::Validator Share() {
  return CLI::Validator(
      [](std::string& text) {
        double value = 0;
        if (ParseNumber(text, &value) && value > 0 && value <= 1) return std::string();
        return "expected a number above 0, at most 1" + ButNot(text);
      },
      "");
}

CLI::Validator Size() {
  return CLI::Validator(
      [](std::string& text) {
        const std::string bad = "expected bytes such as 1048576, 512M or 4G" + ButNot(text);
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

CLI::Validator ListenAddress() { return Address(0); }
CLI::Validator DialledAddress() { return Address(1); }

CLI::Validator HttpUrlFlag() {
  return CLI::Validator([](std::string& text) { return Message(ParseHttpUrl(text).status()); }, "");
}

CLI::Validator ListOf(CLI::Validator each) {
  return CLI::Validator(
      [each = std::move(each)](std::string& text) {
        std::vector<std::string> values = SplitString(text, ',');
        for (std::string& value : values) {
          const std::string error = each(value);
          if (!error.empty()) return error + (values.size() > 1 ? " (in " + text + ")" : "");
        }
        text = Join(values, ",");
        return std::string();
      },
      "");
}

}  // namespace trireme
