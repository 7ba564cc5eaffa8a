// What a flag's value must be, said in words: CLI11 itself takes "" for 0, "010" for 8 and a sign
// for a large number, and tells no more than that it could not convert. Every flag that takes a
// number or an address goes through `transform` of one of these; the value becomes the plain
// number.
#pragma once

#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "CLI/CLI.hpp"
#include "base/check.h"
#include "base/str.h"

namespace trireme {

// ", not abc"
std::string ButNot(const std::string& text);

// A whole number that a T can hold, at least `least`.
template <typename T>
CLI::Validator Whole(T least = std::numeric_limits<T>::min()) {
  return CLI::Validator(
      [least](std::string& text) {
        T value = 0;
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
        const bool is_number = end == text.data() + text.size();
        if (is_number && error == std::errc() && value >= least) {
          text = StrCat(value);
          return std::string();
        }
        const bool beyond = is_number && error == std::errc::result_out_of_range;
        std::string wanted = "expected a whole number";
        if (beyond && text[0] != '-') {
          wanted += StrCat(", at most ", std::numeric_limits<T>::max());
        } else if (beyond || std::is_unsigned_v<T> || least > std::numeric_limits<T>::min()) {
          wanted += StrCat(", at least ", least);
        }
        return wanted + ButNot(text);
      },
      "");
}

inline CLI::Validator AtLeast(int32_t least) { return Whole<int32_t>(least); }

// What a float can hold: 0.7, 1e-3, nan, inf.
CLI::Validator Number();

CLI::Validator Rate();                         // requests per second: a number above 0
CLI::Validator Biases();                       // ID=BIAS between commas: 5=-100,7=2.5
CLI::Validator Seconds(bool or_none = false);  // above 0, or 0: 30, 30s, 500ms, 2m, 1h
CLI::Validator Share();                        // above 0, at most 1

CLI::Validator OneOf(std::vector<std::string> values);

// Bytes, with K, M, G or T for powers of 1024.
CLI::Validator Size();

// HOST:PORT. Port 0, any that is free, is for those who listen.
CLI::Validator ListenAddress();
CLI::Validator DialledAddress();

// http://HOST:PORT[/PATH]
CLI::Validator HttpUrlFlag();

// `each` for whatever stands between the commas.
CLI::Validator ListOf(CLI::Validator each);

// A flag that takes numbers between commas: each as the validator says, or whole and at least
// `least`.
template <typename T>
CLI::Option* AddList(CLI::App& app, const std::string& flag, std::vector<T>& values,
                     CLI::Validator each, const std::string& help) {
  const auto read = [&values](const std::vector<std::string>& lists) {
    values.clear();
    for (const std::string& list : lists) {
      for (const std::string& text : SplitString(list, ',')) {
        values.emplace_back();
        CHECK(ParseNumber(text, &values.back()));
      }
    }
  };
  return app.add_option_function<std::vector<std::string>>(flag, read, help)
      ->transform(ListOf(std::move(each)))
      ->default_str(Join(values, ","));
}
template <typename T>
CLI::Option* AddList(CLI::App& app, const std::string& flag, std::vector<T>& values, T least,
                     const std::string& help) {
  return AddList(app, flag, values, Whole<T>(least), help);
}

}  // namespace trireme
