// The command line of splitee-edge.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "policy/policy.h"
#include "runtime/network.h"
#include "tools/common/flags.h"
#include "tools/common/sample_reader.h"
#include "tools/edge/edge_loop.h"
#include "tools/http/http_flags.h"
#include "transport/client/client.h"

namespace splitee::tools {

struct EdgeOptions {
  ModelFlags model;
  CostFlags costs;
  std::vector<std::string> servers;
  std::string input = "-", output = "-";
  std::size_t max_tokens = 0;  // 0: what the model takes
  bool append = false;
  InputFormat input_format = InputFormat::kOfModel;
  bool feedback = false;   // a column of it is read
  FrameSize frame;         // of raw frames
  bool drop_late = false;  // frames
  std::string policy{policy::kDefaultPolicy};
  bool policy_given = false;
  std::optional<double> alpha;
  std::optional<std::size_t> split;      // layer, 1-based
  policy::PolicyOptions policy_options;  // as the policies' own flags say
  std::uint64_t seed = 0;
  std::string state_path;
  std::uint64_t deadline_ms = 1000;
  std::uint64_t connect_ms = 1000;
  bool require_server = false;
  std::size_t window = 8;
  std::optional<std::string> payload, activation;  // words of the flags
  double slowdown = 1.0;
  bool energy = false;
  std::string energy_root;
  bool exits = false;
  std::string secret_key_path, server_key;
  std::string summary_path;
  HttpFlags http;  // serves in place of reading --input
  bool quiet = false;
  bool progress = false;
};

// Parses; the exit code where the program is to end at once.
std::optional<int> parse_edge_options(int argc, char** argv, EdgeOptions& options);

// The same for who runs an edge of his own: words "name=value" or "name", as parse_words() takes
// them, of the groups named. kInvalidArgument, with the option, where one is unknown or wrong.
enum EdgeWords : unsigned { kPolicyWords = 1, kLinkWords = 2, kRunWords = 4 };
Status parse_edge_words(const std::vector<std::string>& words, unsigned groups,
                        EdgeOptions& options);

// A network whose answers have no confidence runs to its last exit, whatever the default; fails
// where another policy was asked for.
Status choose_policy(const runtime::Network& network, EdgeOptions& options);

// What the policy is made with: the flags, with the model's exits and suggested threshold.
// kInvalidArgument where --split names no exit of this model.
Result<policy::PolicyOptions> policy_options(const EdgeOptions& options,
                                             const runtime::Network& network);

// Layers that every sample runs here, whatever comes; 1 for policies that choose.
std::size_t layers_always_run(const EdgeOptions& options);

// Whether the costs are those measured while running: --costs live.
bool live_costs(const EdgeOptions& options);
// Fails where energy is to be the cost and cannot be measured.
Result<EdgeSettings> edge_settings(const EdgeOptions& options);

// The link to the servers; null without --server.
Result<std::unique_ptr<transport::Client>> make_client(const EdgeOptions& options,
                                                       const runtime::Network& network);

}  // namespace splitee::tools
