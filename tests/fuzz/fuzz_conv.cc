// ConvNetwork loader: the input is a whole model file. Most changed files get the right content
// hash, so that what lies behind that check is reached.
#include "runtime/loader/loader.h"
#include "tests/fuzz/fuzz.h"
#include "tests/runtime/model_builder.h"

using namespace splitee;
using namespace splitee::runtime;
using namespace splitee::runtime::testing;

namespace {

auto load(std::span<const std::byte> file) {
  return network_from_bytes("M", file, *splitee::kernels::find_target("scalar"));
}

}  // namespace

void splitee::fuzz::repair(std::string& input) {
  fix_content_hash(input);
}

std::vector<std::string> splitee::fuzz::seeds() {
  ConvShape basic{
      .height = 3, .width = 4, .stem_channels = 2, .channels = {2, 3}, .strides = {1, 2}};
  basic.exit_channels = {0, 2};
  ConvShape inverted = basic;
  inverted.inverted = true;
  inverted.hidden = {2, 4};
  inverted.stem_pool = 1;
  ConvShape bytes = inverted;
  bytes.type = kTensorI8;
  ConvShape pad = basic;
  pad.projection = false;
  std::vector<std::string> files;
  for (const ConvShape& shape : {basic, inverted, bytes, pad}) {
    files.push_back(build(random_conv(shape)));
    splitee::fuzz::require(load(splitee::fuzz::bytes_of(files.back())).ok());
  }
  return files;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto network = load(std::as_bytes(std::span(data, size)));
  if (!network.ok()) {
    splitee::fuzz::require(network.status().message().starts_with("M: "));
    return 0;
  }
  // Larger maps only cost time.
  constexpr double kMostOperations = 1e7;
  if (operations_after((*network)->info().sizes, 0, 1) > kMostOperations) return 0;
  const auto engine = (*network)->make_engine();
  if (!engine->begin((*network)->random_input(1, 1).view()).ok()) return 0;
  splitee::fuzz::require(engine->run_to((*network)->info().layers()).ok());
  (void)engine->evaluate_exit((*network)->info().exits() - 1);
  return 0;
}
