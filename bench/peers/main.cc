// What bench/peers/run starts: "compare" (equal answers and times of both sides), "once" (a new
// process's way to its first answer), "operators" (the graph that the peer's optimiser makes) and
// "peaks" (the limits of the machine). bench/peers/images and texts start "passes".
#include <cstdio>
#include <fstream>
#include <string>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "bench/build_info.h"
#include "bench/peak.h"
#include "bench/peers/compare.h"
#include "bench/peers/network.h"
#include "bench/peers/passes.h"
#include "kernels/kernels.h"

namespace splitee::bench {
namespace {

constexpr std::size_t kVocab = 30522;

void add_ort_flags(CLI::App& app, OrtOptions& options) {
  app.add_option("--library", options.library, "libonnxruntime.so.1")->type_name("FILE");
  app.add_option("--onnx", options.model, "the peer's model")->type_name("FILE");
  app.add_option("--session-option", options.config, "of the peer's session")
      ->type_name("KEY=VALUE");
}

void add_compare(CLI::App& app, CompareOptions& options) {
  CLI::App* command = app.add_subcommand("compare", "Compares answers, then times; prints JSON.");
  add_ort_flags(*command, options.ort);
  command->add_option("--gguf", options.gguf, "our model")->type_name("FILE")->required();
  command->add_option("--target", options.target, "kernel target (default: the best)");
  command->add_option("--reference", options.reference, "fp32 model whose answers are exact")
      ->type_name("FILE");
  command->add_option("--dtype", options.dtype, "f32, bf16 or i8")->required();
  command->add_option("--threads", options.ort.threads, "of either side")->capture_default_str();
  command->add_option("--tokens", options.tokens, "lengths")->required();
  command->add_option("--seconds", options.seconds, "for all lengths")->capture_default_str();
  command->callback([&options] { compare(options); });
}

// The peak of resident memory in kB, as the kernel counts it.
std::size_t peak_memory_kb() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    std::size_t value = 0;
    if (word == "VmHWM:" && status >> value) return value;
  }
  return 0;
}

struct OnceOptions {
  OrtOptions ort;
  std::string gguf;
  std::size_t tokens = 32;
};

void once(const OnceOptions& options) {
  std::unique_ptr<Network> network;
  if (options.gguf.empty()) {
    network = std::make_unique<OrtNetwork>(options.ort, 2);
  } else {
    network = std::make_unique<OurNetwork>(open_our_model(options.gguf, ""), options.ort.threads);
  }
  network->run(random_ids(options.tokens, kVocab, 0));
  const std::vector<float> answer = network->probabilities();
  std::printf("%.6f %zu\n", static_cast<double>(answer.back()), peak_memory_kb());
  std::fflush(stdout);
}

void add_once(CLI::App& app, OnceOptions& options) {
  CLI::App* command = app.add_subcommand(
      "once", "One answer from a new process: a probability, and the peak of memory in kB.");
  add_ort_flags(*command, options.ort);
  command->add_option("--gguf", options.gguf, "our model, in place of the peer's")
      ->type_name("FILE");
  command->add_option("--threads", options.ort.threads)->capture_default_str();
  command->add_option("--tokens", options.tokens)->capture_default_str();
  command->callback([&options] { once(options); });
}

void add_optimize(CLI::App& app, OrtOptions& options) {
  CLI::App* command = app.add_subcommand("optimize", "Saves the graph that the peer runs.");
  add_ort_flags(*command, options);
  command->add_option("--output", options.save_optimized)->type_name("FILE")->required();
  command->callback([&options] { const OrtModel model(options); });
}

void add_passes(CLI::App& app, PassesOptions& options) {
  CLI::App* command = app.add_subcommand(
      "passes",
      "Probabilities of samples in a line; then the milliseconds of N passes for every "
      "line N of standard input.");
  command->add_option("--gguf", options.gguf, "our model")->type_name("FILE")->required();
  command->add_option("--target", options.target, "kernel target (default: the best)");
  CLI::Option* inputs =
      command->add_option("--inputs", options.inputs, "float32 outputs of layer 0")
          ->type_name("FILE");
  CLI::Option* ids =
      command->add_option("--ids", options.ids, "int32 token ids, in place of --inputs")
          ->type_name("FILE")
          ->excludes(inputs);
  CLI::Option* tokens = command->add_option("--tokens", options.tokens, "of each sample");
  command->add_option("--lengths", options.lengths, "of the samples, which run as one batch")
      ->delimiter(',')
      ->needs(ids)
      ->excludes(tokens);
  command->add_option("--threads", options.threads)->capture_default_str();
  command->add_flag("--last-alone", options.last_alone, "evaluate the last exit only")
      ->excludes(ids);
  command->callback([&options] { passes(options); });
}

void print_peaks() {
  nlohmann::json result = {{"compiler", __VERSION__}, {"commit", kCommit}};
#ifdef __clang__
  result["compiler"] = "clang " __clang_version__;
#elif defined(__GNUC__)
  result["compiler"] = "g++ " __VERSION__;
#endif
  for (const Peak& peak : peaks()) {
    if (!peak.supported()) continue;
    result["operations_per_second"][std::string(peak.name)] = measure_peak(peak, 200);
  }
  for (const kernels::Kernels* kernels : kernels::compiled_targets()) {
    if (!kernels::supported(*kernels)) continue;
    for (const char* dtype : {"f32", "bf16", "i8"}) {
      const Peak* const peak = find_peak(dtype, kernels->target);
      if (peak != nullptr) result["of_targets"][kernels->target][dtype] = peak->name;
    }
  }
  const std::pair<const char*, std::size_t> sizes[] = {{"L1 (16 KiB)", 16},
                                                       {"L2 (512 KiB)", 512},
                                                       {"L3 (8 MiB)", 8 << 10},
                                                       {"DRAM (256 MiB)", 256 << 10}};
  for (const auto& [name, kib] : sizes) {
    result["bytes_per_second"][name] = measure_read(kib << 10);
    result["bytes_per_second_two_threads"][name] = measure_read(kib << 10, 2);
  }
  std::printf("%s\n", result.dump(1).c_str());
}

}  // namespace
}  // namespace splitee::bench

int main(int argc, char** argv) {
  CLI::App app("Measures this project beside ONNX Runtime; bench/peers/run starts it.");
  app.require_subcommand(1);
  splitee::bench::CompareOptions compare_options;
  splitee::bench::OnceOptions once_options;
  splitee::bench::OrtOptions optimize_options;
  splitee::bench::PassesOptions passes_options;
  splitee::bench::add_compare(app, compare_options);
  splitee::bench::add_once(app, once_options);
  splitee::bench::add_optimize(app, optimize_options);
  splitee::bench::add_passes(app, passes_options);
  app.add_subcommand("peaks", "Measures the machine; prints JSON.")
      ->callback(splitee::bench::print_peaks);
  CLI11_PARSE(app, argc, argv);
  return 0;
}
