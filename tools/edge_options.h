// The command line of splitee-edge.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "policy/policy.h"
#include "runtime/model.h"
#include "runtime/status.h"
#include "tools/edge_loop.h"
#include "tools/flags.h"
#include "tools/sample_reader.h"
#include "transport/client.h"

namespace splitee::tools {

struct EdgeOptions {
  ModelFlags model;
  CostFlags costs;
  std::vector<std::string> servers;
  std::string input = "-", output = "-";
  InputFormat input_format = InputFormat::kLines;
  std::string policy = "adaptive";
  std::optional<double> alpha;
  std::optional<std::size_t> split;  // layer, 1-based
  double exploration = 1.0;
  std::uint64_t seed = 0;
  std::string state_path;
  std::uint64_t deadline_ms = 1000;
  std::uint64_t connect_ms = 1000;
  std::size_t window = 8;
  std::optional<std::string> payload, activation;  // words of the flags
  double slowdown = 1.0;
  bool energy = false;
  std::string energy_root;
  bool exits = false;
  std::string secret_key_path, server_key;
  std::string summary_path;
  bool quiet = false;
  bool progress = false;
};

// Parses; the exit code where the program is to end at once.
std::optional<int> parse_edge_options(int argc, char** argv, EdgeOptions& options);

// What the policy is made with: the flags, with the model's exits and suggested threshold.
// kInvalidArgument where --split names no exit of this model.
runtime::Result<policy::PolicyOptions> policy_options(const EdgeOptions& options,
                                                      const runtime::ModelConfig& config);

// Layers that every sample runs here, whatever comes; 1 for policies that choose.
std::size_t layers_always_run(const EdgeOptions& options);

// Whether the costs are those measured while running: --costs live.
bool live_costs(const EdgeOptions& options);
// Fails where energy is to be the cost and cannot be measured.
runtime::Result<EdgeSettings> edge_settings(const EdgeOptions& options);

// The link to the servers; null without --server.
runtime::Result<std::unique_ptr<transport::Client>> make_client(const EdgeOptions& options,
                                                                const runtime::Model& model);

}  // namespace splitee::tools
