// TenantService: how much service each tenant has had, by its weight, for fairness where tenants
// compete for a replica's KV blocks (Sheng et al., "Fairness in Serving Large Language Models",
// OSDI 2024). A tenant that had nothing here starts where the least served of the others is: it has
// no claim on what it did not ask for.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>

namespace trireme {

class TenantService {
 public:
  struct Tenant {
    double weight = 1;
    double time = 0;       // virtual: tokens by weight
    int64_t n_active = 0;  // sequences here
  };

  // One more sequence of the tenant's is here. The reference holds while it is.
  Tenant& Enter(const std::string& name, double weight) {
    double least = now_;
    for (bool first = true; const auto& [other, tenant] : tenants_) {
      least = first ? tenant.time : std::min(least, tenant.time);
      first = false;
    }
    Tenant& tenant = tenants_.try_emplace(name, Tenant{.time = least}).first->second;
    tenant.weight = weight;
    ++tenant.n_active;
    return tenant;
  }

  // One fewer; a tenant without any is forgotten.
  void Leave(const std::string& name) {
    const auto it = tenants_.find(name);
    if (--it->second.n_active > 0) return;
    now_ = std::max(now_, it->second.time);
    tenants_.erase(it);
  }

  static void Charge(Tenant& tenant, int64_t n_tokens) {
    tenant.time += static_cast<double>(n_tokens) / tenant.weight;
  }

 private:
  std::map<std::string, Tenant> tenants_;  // that have sequences here
  double now_ = 0;                         // of the last one that left
};

}  // namespace trireme
