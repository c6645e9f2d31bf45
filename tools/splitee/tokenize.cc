#include <memory>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "kernels/kernels.h"
#include "runtime/bert/model.h"
#include "tools/common/console.h"
#include "tools/common/flags.h"
#include "tools/common/line_reader.h"
#include "tools/common/sample_reader.h"
#include "tools/splitee/commands.h"

namespace splitee::tools {

namespace {

using nlohmann::ordered_json;

struct Flags {
  std::string model, input = "-";
  InputFormat format = InputFormat::kLines;
  std::size_t max_tokens = 0;  // 0: what the model takes
  bool ids = false, json = false;
};

std::string ids_line(const runtime::Encoding& encoding) {
  return fmt::format("{}\n", fmt::join(encoding.ids, " "));
}

std::string tokens_line(const runtime::Encoding& encoding, const runtime::TokenTexts& vocab) {
  std::string line;
  for (const std::int32_t id : encoding.ids) {
    line += line.empty() ? "" : " ";
    line += printable(vocab[static_cast<std::size_t>(id)]);
  }
  return line + "\n";
}

std::string json_line(std::uint64_t id, const runtime::Encoding& encoding,
                      const runtime::TokenTexts& vocab) {
  std::vector<std::string> tokens;
  for (const std::int32_t token : encoding.ids) {
    tokens.emplace_back(vocab[static_cast<std::size_t>(token)]);
  }
  const ordered_json line = {
      {"id", id}, {"tokens", tokens}, {"ids", encoding.ids}, {"types", encoding.types}};
  return line.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

Status tokenize(const Flags& flags) {
  const auto model = runtime::BertNetwork::open(flags.model, *kernels::find_target("scalar"));
  if (!model.ok()) return not_usage(model.status());
  const runtime::Tokenizer& tokenizer = (*model)->tokenizer();
  const std::size_t most = flags.max_tokens > 0 ? flags.max_tokens : (*model)->config().max_tokens;
  Result<LineReader> lines = LineReader::open(flags.input);
  if (!lines.ok()) return lines.status();
  Result<SampleReader> reader =
      SampleReader::open(std::move(*lines), flags.format, (*model)->info());
  if (!reader.ok()) return reader.status();
  Sample sample;
  for (;;) {
    const Result<bool> more = reader->next(sample);
    if (!more.ok()) return more.status();
    if (!*more) return {};
    const runtime::Input& input = sample.input;
    std::string_view second;
    if (input.second) second = *input.second;
    const runtime::Encoding encoding =
        tokenizer.encode(input.bytes, input.second ? &second : nullptr, most);
    const std::string line = flags.json  ? json_line(sample.id, encoding, tokenizer.vocab())
                             : flags.ids ? ids_line(encoding)
                                         : tokens_line(encoding, tokenizer.vocab());
    if (Status status = print_output(line); !status.ok()) return status;
  }
}

}  // namespace

void add_tokenize(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand(
      "tokenize", "Prints the tokens that a model's tokenizer makes of samples, a line each.");
  const auto flags = std::make_shared<Flags>();
  command->add_option("--model", flags->model, "model file (GGUF)")->type_name("FILE")->required();
  add_sample_flags(*command, flags->input, flags->format);
  command
      ->add_option("--max-tokens", flags->max_tokens,
                   "cut samples to N tokens, [CLS] and [SEP] included (default: what the model "
                   "takes)")
      ->type_name("N")
      ->check(number_within(3, 1e9));
  command->add_flag("--ids", flags->ids, "print numbers");
  command->add_flag("--json", flags->json, "print JSON: id (of the sample), tokens, ids, types");
  command->callback(
      [flags, &exit_code] { exit_code = finish("splitee tokenize", tokenize(*flags)); });
}

}  // namespace splitee::tools
