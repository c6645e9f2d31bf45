#include <algorithm>
#include <cstring>
#include <memory>
#include <span>

#include <fmt/format.h>

#include "tools/common/console.h"
#include "tools/common/flags.h"
#include "tools/common/output_file.h"
#include "tools/common/progress.h"
#include "tools/splitee/all_exits.h"
#include "tools/splitee/commands.h"

namespace splitee::tools {

namespace {

enum class Rows { kFirst, kMean };

constexpr std::size_t kChunk = 256;  // samples computed before they are written

struct Flags {
  ModelFlags model;
  std::string input = "-", output;
  InputFormat format = InputFormat::kLines;
  Rows rows = Rows::kFirst;
  bool progress = false;
};

// One vector of an activation (rows, cols).
void pool(std::span<const float> activation, Rows rows, std::span<float> out) {
  std::ranges::copy(activation.first(out.size()), out.begin());
  if (rows == Rows::kFirst) return;
  const std::size_t count = activation.size() / out.size();
  for (std::size_t row = 1; row < count; ++row) {
    for (std::size_t i = 0; i < out.size(); ++i) out[i] += activation[row * out.size() + i];
  }
  for (float& value : out) value /= static_cast<float>(count);
}

// NumPy's header of a file of float32 in row order, its length a multiple of 64.
std::string npy_header(std::size_t samples, std::size_t layers, std::size_t cols) {
  std::string text = fmt::format(
      "{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}, {}), }}", samples, layers, cols);
  constexpr std::size_t kStart = 10;  // magic, version, length
  text.resize((kStart + text.size() + 1 + 63) / 64 * 64 - kStart - 1, ' ');
  text += '\n';
  std::string header("\x93NUMPY\x01\x00", 8);
  header += static_cast<char>(text.size() & 255);
  header += static_cast<char>(text.size() >> 8);
  return header + text;
}

Status write_features(const Flags& flags, const runtime::Network& network,
                      std::span<const Sample> samples, OutputFile& file) {
  const std::size_t layers = network.info().layers(), cols = network.info().sizes.back().cols;
  if (Status s = file.write(npy_header(samples.size(), layers, cols)); !s.ok()) return s;
  Progress progress(shown_if(flags.progress));
  std::vector<float> values;
  for (std::size_t begin = 0; begin < samples.size(); begin += kChunk) {
    const auto part = samples.subspan(begin, std::min(kChunk, samples.size() - begin));
    values.assign(part.size() * layers * cols, 0);
    const Status status = for_all_samples(
        network, part, flags.model.threads, false,
        [&](runtime::Engine& engine, std::size_t sample) -> Status {
          for (std::size_t layer = 1; layer <= layers; ++layer) {
            if (Status s = engine.run_to(layer, false); !s.ok()) return s;
            pool(engine.activation(), flags.rows,
                 std::span(values).subspan((sample * layers + layer - 1) * cols, cols));
          }
          return {};
        });
    if (!status.ok()) return status;
    const auto bytes = std::as_bytes(std::span(values));
    if (Status s = file.write({reinterpret_cast<const char*>(bytes.data()), bytes.size()}); !s.ok())
      return s;
    progress.update(begin + part.size(), samples.size(), begin + part.size());
  }
  progress.finish();
  return file.close();
}

Status check_widths(const runtime::NetworkInfo& info, const std::string& path) {
  for (std::size_t layer = 1; layer <= info.layers(); ++layer) {
    if (info.sizes[layer].cols != info.sizes.back().cols) {
      return Status(Code::kUnsupported, path + ": its layers are not of one width");
    }
  }
  return {};
}

Status features(const Flags& flags) {
  Status apart = refuse_overwrite(flags.output, {flags.input, flags.model.path});
  if (!apart.ok()) return apart;
  Result<std::shared_ptr<const runtime::Network>> network =
      open_model(flags.model, {.preload = runtime::kAllLayers});
  if (!network.ok()) return network.status();
  if (Status alike = check_widths((*network)->info(), flags.model.path); !alike.ok()) return alike;
  Result<std::vector<Sample>> samples =
      read_all_samples(flags.input, flags.format, (*network)->info());
  if (!samples.ok()) return samples.status();
  Result<OutputFile> file = OutputFile::open(flags.output);
  if (!file.ok()) return file.status();
  return write_features(flags, **network, *samples, *file);
}

}  // namespace

void add_features(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand(
      "features", "Writes what an exit would read of every layer, to train exits on.");
  const auto flags = std::make_shared<Flags>();
  add_model_flags(*command, flags->model, "samples computed at the same time, a thread each");
  add_sample_flags(*command, flags->input, flags->format);
  command->add_option("--output", flags->output, "NumPy file: float32, (samples, layers, cols)")
      ->type_name("FILE.npy")
      ->required();
  add_choice<Rows>(*command, "--rows", flags->rows,
                   "of a layer's output: the first row, or the mean of all",
                   {{"first", Rows::kFirst}, {"mean", Rows::kMean}});
  command->add_flag("--progress", flags->progress, "show progress on standard error");
  command->callback(
      [flags, &exit_code] { exit_code = finish("splitee features", features(*flags)); });
}

}  // namespace splitee::tools
