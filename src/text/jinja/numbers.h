// Numbers as Python writes and reads them.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "text/jinja/value.h"

namespace trireme::jinja {

std::string IntRepr(Int n);
std::string FloatRepr(double d);  // the shortest that reads back the same: "1.0", "1e+16", "nan"

// Digits of the base alone, `_` left out; nullopt beyond 127 bits.
std::optional<Int> ParseInt(std::string_view digits, int base);
// int(text, base) and float(text): a sign, white space around, a prefix such as 0x. nullopt where
// Python raises a ValueError.
std::optional<Int> PythonInt(std::string_view text, int base);
std::optional<double> ParseFloat(std::string_view text);

// nullopt where the result has more than 127 bits.
std::optional<Int> Add(Int a, Int b);
std::optional<Int> Subtract(Int a, Int b);
std::optional<Int> Multiply(Int a, Int b);
std::optional<Int> Power(Int base, Int exponent);  // exponent >= 0
std::optional<Int> FromDouble(double d);           // cut towards zero; `d` is finite

// Rounded towards minus infinity, as // and % do; b != 0.
Int FloorDivide(Int a, Int b);
Int FloorModulo(Int a, Int b);
double FloorDivide(double a, double b);
double FloorModulo(double a, double b);

}  // namespace trireme::jinja
