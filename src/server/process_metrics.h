// What any Prometheus target says of its process, by the names of Prometheus's own clients
// (prometheus.io/docs/instrumenting/writing_clientlibs, "Process metrics").
#pragma once

#include "server/metric_families.h"

namespace trireme {

// Of /proc/self; what it does not say is left out.
void AddProcess(Families& families);

}  // namespace trireme
