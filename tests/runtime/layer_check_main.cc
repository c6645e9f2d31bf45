// usage: layer_check REFERENCE.gguf OTHER.gguf TARGET [-v]
// Lines of token ids on standard input. OTHER on TARGET against REFERENCE on the scalar target;
// exit status 0 where every layer and exit is as good as equal, 1 where one is not, 2 where this
// CPU does not have TARGET.
#include <cstdio>
#include <iostream>
#include <sstream>
#include <string>
#include <string_view>

#include "kernels/kernels.h"
#include "tests/runtime/layer_check.h"

namespace splitee::testing {
namespace {

std::shared_ptr<const runtime::BertNetwork> open(const char* path,
                                                 const kernels::Kernels& kernels) {
  auto model = runtime::BertNetwork::open(path, kernels);
  if (model.ok()) return *model;
  std::fprintf(stderr, "layer check: %s\n", model.status().message().c_str());
  std::exit(2);
}

const kernels::Kernels* find_target(std::string_view name) {
  for (const kernels::Kernels* kernels : kernels::compiled_targets()) {
    if (kernels->target == name) return kernels;
  }
  return nullptr;
}

int run(char** argv, bool verbose) {
  const kernels::Kernels* target = find_target(argv[3]);
  if (target == nullptr || !kernels::supported(*target)) return 2;
  runtime::BertEngine reference(open(argv[1], *kernels::compiled_targets().back()));
  runtime::BertEngine other(open(argv[2], *target));
  int status = 0;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::vector<std::int32_t> ids;
    for (std::int32_t id = 0; words >> id;) ids.push_back(id);
    const std::vector<LayerDifference> found = compare_layers(reference, other, ids);
    if (const std::string large = first_large(found); !large.empty()) {
      std::printf("%s\n", large.c_str());
      status = 1;
    }
    for (const LayerDifference& d : verbose ? found : std::vector<LayerDifference>()) {
      std::printf("%2zu %8.5f %8.5f %8.5f %8.5f\n", d.layer, d.all, d.worst_row, d.worst_column,
                  d.exit);
    }
  }
  return status;
}

}  // namespace
}  // namespace splitee::testing

int main(int argc, char** argv) {
  if (argc < 4) return 2;
  return splitee::testing::run(argv, argc > 4 && std::string_view(argv[4]) == "-v");
}
