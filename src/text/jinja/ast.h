// What a template is parsed into.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja/builtins.h"
#include "text/jinja/value.h"

namespace trireme::jinja {

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

struct Call {
  std::vector<ExprPtr> positional;
  std::vector<std::pair<std::string, ExprPtr>> named;
  ExprPtr star, double_star;  // *list and **dict; may be null
};

struct Expr {
  enum Kind {
    kConst,      // value
    kName,       // text
    kList,       // parts
    kTuple,      // parts
    kDict,       // parts: key, value, key, value …
    kAttribute,  // parts[0].text
    kItem,       // parts[0][parts[1]]
    kSlice,      // parts[0][parts[1]:parts[2]:parts[3]], of which the last three may be null
    kCall,       // parts[0](call)
    kFilter,     // parts[0]|text(call); parts[0] is null for the value of a filter block
    kTest,       // parts[0] is text(call)
    kNot,        // parts[0]
    kNegate,     // parts[0]
    kPlus,       // parts[0]
    kAnd,        // parts[0], parts[1]
    kOr,
    kConcat,         // parts, of any number
    kArithmetic,     // parts[0] text parts[1]
    kCompare,        // parts[0] operators[0] parts[1] operators[1] parts[2] …
    kConditional,    // parts[1] if parts[0] else parts[2], which may be null
    kNamespaceItem,  // text.attribute, as a target
  };

  Kind kind;
  int line;
  std::string text;
  std::string attribute;
  Value value;
  std::vector<ExprPtr> parts;
  std::vector<std::string> operators;
  Call call;
  Filter filter = nullptr;  // null for an unknown one, which is an error if it is reached
  Test test = nullptr;
  int depth = 1;
};

struct Stmt;
using Body = std::vector<std::unique_ptr<Stmt>>;

struct Parameters {
  std::vector<std::string> names;
  std::vector<ExprPtr> defaults;  // of the last ones
  // Whether the body uses these names, which a call then may give.
  bool takes_caller = false, takes_varargs = false, takes_kwargs = false;
};

struct Stmt {
  enum Kind {
    kData,         // text
    kPrint,        // expr
    kIf,           // branches; otherwise
    kFor,          // target in expr [if condition]: body; otherwise
    kSet,          // target = expr
    kSetBlock,     // target = body, through the filters of expr if that is not null
    kMacro,        // text(parameters): body
    kCallBlock,    // call(parameters) expr: body
    kFilterBlock,  // expr, whose innermost filter is given the body
    kWith,         // targets = values: body
    kGeneration,   // body
    kBreak,
    kContinue,
  };

  Kind kind;
  int line;
  std::string text;
  ExprPtr expr, target, condition;
  Body body, otherwise;
  std::vector<std::pair<ExprPtr, Body>> branches;
  std::vector<std::pair<ExprPtr, ExprPtr>> assignments;  // of kWith
  Parameters parameters;
};

}  // namespace trireme::jinja
