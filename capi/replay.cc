// Replays.
#include "capi/handles.h"
#include "capi/own_policy.h"
#include "tools/splitee/replay_words.h"

namespace splitee::capi {
namespace {

int replay(const char* trace, const splitee_policy_calls* own, std::vector<std::string> words,
           std::string& json) {
  tools::OwnPolicy make;
  bool failed = false;
  if (own != nullptr) {
    make = [&](const policy::PolicyOptions& options) -> std::unique_ptr<policy::Policy> {
      return std::make_unique<OwnPolicy>(*own, options, &failed);
    };
  }
  auto figures = tools::replay_words(trace, std::move(words), make);
  if (!figures.ok()) return fail(figures.status());
  if (failed) return fail(SPLITEE_CALLBACK, kOwnPolicyFailed);
  json = std::move(*figures);
  return SPLITEE_OK;
}

}  // namespace
}  // namespace splitee::capi

using namespace splitee::capi;
using splitee::Status;

int splitee_replay(const char* trace_path, const splitee_policy_calls* calls,
                   const char* const* options, char* json, size_t capacity, size_t* bytes) {
  return guarded([&]() -> int {
    splitee_policy_calls own{};
    if (trace_path == nullptr) return fail(invalid("trace_path is NULL"));
    if (calls != nullptr) {
      if (Status status = take_calls(calls, own); !status.ok()) return fail(status);
    }
    std::string figures;
    const int result =
        replay(trace_path, calls == nullptr ? nullptr : &own, words_of(options), figures);
    if (result != SPLITEE_OK) return result;
    return copy_out(figures.c_str(), figures.size() + 1, json, capacity, bytes);
  });
}
