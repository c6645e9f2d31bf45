// What is behind the handles of splitee.h, and how calls become results there. Internal to capi/.
// Thread rule: as splitee.h says of each handle; the last error is a thread's own.
// Ownership: splitee_free() ends a handle; what a handle needs of others it holds in shared_ptrs.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/status.h"
#include "capi/splitee.h"
#include "policy/policy.h"
#include "runtime/network.h"
#include "tools/edge/edge_options.h"
#include "transport/client/client.h"

namespace splitee::capi {

// The first base of every handle, so that a handle's address is this one's.
struct Handle {
  virtual ~Handle() = default;
};

// A policy with what it was made with, and whether a callback of its has failed.
struct PolicyParts {
  std::shared_ptr<const runtime::Network> network;
  tools::EdgeOptions options;
  policy::PolicyOptions policy_options;
  std::unique_ptr<policy::Policy> policy;
  std::unique_ptr<bool> failed;  // of a caller's policy; null for the library's
  // Of the last outcome given out.
  std::vector<float> confidences;
  std::vector<std::uint32_t> classes;
};

// Takes note of the message for splitee_last_error().
int fail(int result, std::string message) noexcept;
int fail(const Status& status) noexcept;

// Runs the body of a call, which returns a Status or an int: no exception leaves it.
int run_body(int (*body)(void*), void* context) noexcept;
template <class Body>
int guarded(Body&& body) noexcept {
  return run_body(
      [](void* context) -> int {
        auto result = (*static_cast<std::remove_reference_t<Body>*>(context))();
        if constexpr (std::is_same_v<decltype(result), int>) {
          return result;
        } else {
          return fail(result);
        }
      },
      &body);
}

Status invalid(std::string why);

// --- structures that say their size: `first` is the size of their first version

// A copy of what the caller gave, with zeros where his header knew less.
template <class T>
Status take(const T* given, T& copy) {
  if (given == nullptr) return invalid("a structure is NULL");
  if (given->struct_size < sizeof(T)) return invalid("struct_size is too small: set it first");
  std::memcpy(&copy, given, sizeof(T));
  return {};
}

// Fills in what the caller's header knows of `value`.
template <class T>
Status give(T value, T* out) {
  if (out == nullptr) return invalid("a structure is NULL");
  if (out->struct_size < sizeof(T)) return invalid("struct_size is too small: set it first");
  value.struct_size = out->struct_size;
  std::memcpy(out, &value, sizeof(T));
  return {};
}

// "name=value" words. NULL: none.
std::vector<std::string> words_of(const char* const* options);

// Copies `size` bytes out; their number comes in `bytes` in any case.
int copy_out(const void* from, std::size_t size, void* to, std::size_t capacity,
             std::size_t* bytes);

// Copies an exit's numbers out.
Status copy_probabilities(std::span<const float> from, float* to, std::size_t count);

Result<runtime::Input> input_of(const runtime::NetworkInfo& info, const splitee_input& given);

// `own`: the caller's policy, or null. Reads `words` of the groups kPolicyWords alone.
Result<PolicyParts> make_policy_parts(std::shared_ptr<const runtime::Network> network,
                                      const splitee_policy_calls* own, tools::EdgeOptions options);
// Both wait for a first server as the options say.
Result<std::shared_ptr<transport::Client>> make_client(const runtime::Network& network,
                                                       const tools::EdgeOptions& options);

splitee_outcome outcome_of(const policy::Outcome& outcome, const policy::CostModel& costs);

}  // namespace splitee::capi

struct splitee_model : splitee::capi::Handle {
  std::shared_ptr<const splitee::runtime::Network> network;
  std::vector<const char*> labels, columns;
};

struct splitee_engine : splitee::capi::Handle {
  std::shared_ptr<const splitee::runtime::Network> network;
  std::unique_ptr<splitee::runtime::Engine> engine;
  bool begun = false;
  std::size_t length = 0;  // of the sample's input
};

struct splitee_policy : splitee::capi::Handle {
  std::shared_ptr<splitee::capi::PolicyParts> parts;
};

struct splitee_client : splitee::capi::Handle {
  std::shared_ptr<const splitee::runtime::Network> network;
  std::shared_ptr<splitee::transport::Client> client;
};
