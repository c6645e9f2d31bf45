// What the page (page.html) has of the engine: a network from bytes, what each of its exits says of
// a text, and a stream of such answers that policies are tried out on. The same code as the
// programs': runtime/ and policy/replay/. Thread rule: one thread. Errors: as runtime/loader,
// policy/replay and what is said below; messages are for people.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/status.h"
#include "policy/replay/replay_types.h"
#include "runtime/network.h"

namespace splitee::web {

using Json = nlohmann::ordered_json;

class Page {
 public:
  // Takes a network of texts with classes; whatever was there before stays where it fails, and the
  // stream is forgotten where it does not. `target` may be empty: the best kernels there are. Gives
  // its sizes and labels.
  Result<Json> open(const std::string& name, std::span<const std::byte> bytes,
                    std::string_view target);

  // Every exit's class, confidence and time (microseconds since the text was begun), and the layer
  // at which the policy "threshold" with this alpha stops.
  Result<Json> classify(const std::string& text, double alpha);

  // A text more, with its label's class number or a negative one.
  Result<Json> add_to_stream(const std::string& text, int label);
  // A trace in place of the stream (policy/replay/trace.h).
  Result<Json> load_stream(const std::string& name, std::string_view csv);
  void clear_stream() { stream_ = {}; }

  // A replay of one run over the stream, in its order. `settings`: policy; seed; lambda; offload
  // (null: no server); alpha (null: what the network suggests); options, by the names of
  // policy::option_list(). The figures are those of `splitee replay --json`, and for every sample
  // the layers it ran, its route, its cost in lambda and whether its answer differs from the last
  // exit's.
  Result<Json> replay(std::string_view settings) const;

  // Every policy's name and summary.
  static Json policies();

 private:
  struct Answers {
    std::size_t length = 0;  // of the input, in units
    bool full = false;
    std::vector<float> probabilities;  // (exits, classes)
    std::vector<double> us;            // (exits)
  };
  Result<Answers> run(const std::string& text);
  void append(policy::Trace& trace, const Answers& answers, int label) const;
  Result<policy::ReplayOptions> options_of(const Json& settings) const;

  std::shared_ptr<const runtime::Network> network_;
  std::unique_ptr<runtime::Engine> engine_;
  policy::Trace stream_;
};

}  // namespace splitee::web
