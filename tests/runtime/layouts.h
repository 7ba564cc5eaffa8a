// What the layout tests of each device share: models, requests, and how outcomes are compared.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "harness.h"

namespace trireme {

struct Case {
  const char* model;
  DType activations;
};

// Of the device that the binary is for.
std::vector<Case> LayoutCases();

void PrintTo(const Case& c, std::ostream* out);
ReplicaOptions Base(const Case& c);
std::vector<Arrival> Requests();
const Outcome& Reference(const Case& c);  // of one rank, for Requests()
void ExpectSameBits(const Outcome& got, const Outcome& expected, const std::string& what);

}  // namespace trireme
