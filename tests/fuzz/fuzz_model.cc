// BertNetwork loader: the input is a whole model file. Most changed files get the right
// content hash and sums of blocks, so that what lies behind that check is reached.
#include "runtime/bert/engine.h"
#include "runtime/bert/model.h"
#include "runtime/file/gguf.h"
#include "tests/fuzz/fuzz.h"
#include "tests/runtime/model_builder.h"

using namespace splitee;
using namespace splitee::runtime;
using namespace splitee::runtime::testing;

namespace {

auto load(std::span<const std::byte> file) {
  return BertNetwork::from_bytes("M", file, *splitee::kernels::find_target("scalar"));
}

}  // namespace

void splitee::fuzz::repair(std::string& input) {
  const auto file = Gguf::parse("input", as_bytes(input));
  if (file.ok() && !file->tensors().empty()) {
    fix_block_sums(input, file->tensors().front().offset);
  }
  fix_content_hash(input);
}

std::vector<std::string> splitee::fuzz::seeds() {
  ModelShape tiny;
  tiny.layers = 1;
  tiny.hidden = 2;
  tiny.heads = 1;
  tiny.ffn = 1;
  tiny.positions = 3;
  tiny.classes = 2;
  tiny.vocab = 7;
  tiny.types = 1;
  tiny.exit_layers = {1};
  std::vector<std::string> files = {build(random_model(tiny))};
  FileSpec f16 = random_model(tiny);
  for (const char* name : {"blk.0.attn_q.weight", "token_embd.weight"}) {
    f16.tensor(name).type = kTensorF16;
    f16.tensor(name).data.resize(f16.tensor(name).data.size() / 2, '\1');
  }
  files.push_back(build(f16));
  FileSpec i8 = random_model(tiny);
  i8.tensor("blk.0.attn_k.weight").type = kTensorI8;
  i8.tensor("blk.0.attn_k.weight").data.assign(4, '\5');
  i8.tensors.push_back(
      {"blk.0.attn_k.weight.scale", {2}, kTensorF32, raw(0.5f) + raw(0.25f), {}, {}});
  i8.keys.push_back({"splitee.alpha", kF32, raw(0.9f)});
  i8.keys.push_back({"splitee.lower_case", kBool, std::string(1, '\0')});
  i8.keys.push_back({"splitee.exit_temperatures", kArray, raw_array(kF32, 1, raw(1.5f))});
  files.push_back(build(i8));
  FileSpec summed = random_model(tiny);  // with a block behind the one in which the data begins
  summed.keys.push_back({"a.note", kString, raw_string(std::string(65536, 'x'))});
  add_block_sums(summed);
  files.push_back(build(summed));
  for (const std::string& file : files) {
    splitee::fuzz::require(load(splitee::fuzz::bytes_of(file)).ok());
  }
  FileSpec broken = random_model(tiny);
  broken.tensors.back().offset = ~std::uint64_t{0};
  files.push_back(build(broken));
  return files;
}

namespace {

void run_model(std::shared_ptr<const BertNetwork> model) {
  BertEngine engine(model, 1);
  const Encoding input = model->tokenizer().encode(
      "t5 t6", nullptr, std::min<std::size_t>(4, model->config().max_tokens));
  if (!engine.begin(input.ids, input.types).ok()) return;
  splitee::fuzz::require(engine.run_to(model->config().layers).ok());
  (void)engine.evaluate_exit(model->config().exit_layers.size() - 1);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto container = Gguf::parse("M", bytes);
  if (container.ok()) {
    for (const GgufEntry& entry : container->entries()) (void)value_text(entry, 3);
  }
  const auto model = load(bytes);
  if (model.ok()) {
    run_model(*model);
  } else {
    splitee::fuzz::require(model.status().message().starts_with("M: "));
  }
  return 0;
}
