// The cost file that `splitee profile --output` writes and `splitee-edge --costs` reads. JSON:
//
//   "format": "splitee-costs", "version": 1
//   "model_hash": 16 hex digits, of the model measured; where it is left out, the times are taken
//   for any model's                  "target", "dtype": strings      "seq", "threads": integers
//   "embedding_us", "total_us": microseconds      "layers_us": [one per layer]
//   "exits_us": [one per exit]        all medians
//   "lazy_exits_us": [one per exit]   the exit with as much of its layer as it reads, which
//   is
//                                     what a sample pays that ends there (runtime/engine.h)
//   "rest_layers_us": [one per exit]  the rest of that layer, if the sample goes on
// The last two are not read: files without them are fine.
//
// Reading it into a cost model: with l = mean(layers_us) and e = mean(exits_us), a layer takes
// lambda1 = lambda * l / (l + e) and an exit lambda2 = lambda * e / (l + e), so that the mean
// layer with its exit costs lambda, as in SplitEE (arXiv 2309.09195, section 3).
// Thread rule: plain values and free functions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "runtime/network.h"

namespace splitee::tools {

struct CostFile {
  std::string model_hash, target, dtype;
  std::size_t seq = 0, threads = 1;
  double embedding_us = 0, total_us = 0;
  std::vector<double> layers_us, exits_us;
  std::vector<double> lazy_exits_us, rest_layers_us;
};

// The JSON text; also what `splitee profile --json` prints.
std::string cost_file_json(const CostFile& costs);

// Errors name the path and the field.
Status write_cost_file(const std::string& path, const CostFile& costs);
Result<CostFile> read_cost_file(const std::string& path);

// Fails where the costs name a model and it is another one, or the times are not one per layer and
// exit of it. The second of a trace, of which only the exits are known.
Status check_costs_of(const std::string& path, const CostFile& costs,
                      const runtime::Network& network);
Status check_costs_of(const std::string& path, const CostFile& costs, std::size_t exits);

// l / (l + e), from 0 to 1.
double layer_share(const CostFile& costs);
// l + e, in microseconds.
double unit_us(const CostFile& costs);

}  // namespace splitee::tools
