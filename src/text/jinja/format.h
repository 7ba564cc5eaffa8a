// "%s" % value and "{}".format(value).
#pragma once

#include <string_view>

#include "text/jinja/runtime.h"
#include "text/jinja/value.h"

namespace trireme::jinja {

// %s %r %d %i %u %f %e %g %x %X %o with flags, width and precision. `values`: a tuple, a dict for
// %(name)s, or one value.
absl::StatusOr<Value> FormatPercent(Runtime& runtime, const Value& format, const Value& values);

// Fields by position or name, attributes and items of them, !s and !r, and the format
// specifications
// [[fill]align][sign][0][width][,][.precision][type] with the types s d x X o b f F e E g G %.
absl::StatusOr<Value> FormatBraces(Runtime& runtime, const Value& format,
                                   const Arguments& arguments);

}  // namespace trireme::jinja
