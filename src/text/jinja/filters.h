// The filters by what they work on; FindFilter of builtins.h looks through both lists.
#pragma once

#include <span>
#include <string_view>

#include "text/jinja/builtins.h"

namespace trireme::jinja {

struct FilterEntry {
  std::string_view name;
  Filter filter;
};

std::span<const FilterEntry> TextFilters();      // filters_text.cc: texts, numbers, JSON
std::span<const FilterEntry> SequenceFilters();  // filters_sequence.cc

}  // namespace trireme::jinja
